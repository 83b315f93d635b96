//! A server that somebody else runs: an address and nothing else. `observe` on its host tells what it spends.

use std::collections::BTreeMap;
use std::error::Error;

use super::TargetSpec;
use super::running::{Running, names_a_node};
use super::setup::Setup;
use crate::lab::cluster::Cluster;
use crate::lab::result::Durability;

/// Asks whether it answers.
///
/// Errors: no address is given, settings are, or it does not answer.
pub(super) fn start(spec: &TargetSpec, setup: &Setup) -> Result<Running, Box<dyn Error>> {
    let address = spec.address.ok_or("an external target needs an address")?;
    if !spec.settings.is_empty() {
        return Err("an external target takes no settings from here".into());
    }
    if !names_a_node(address).map_err(|error| format!("{address}: {error}"))? {
        return Err(format!("{address} names no node").into());
    }
    let mut sheet = spec.sheet(setup, "unknown".to_owned(), String::new(), BTreeMap::new());
    (sheet.durability, sheet.cpus) = (Durability::Unknown, Vec::new());
    Ok(Running { sheet, cluster: Cluster::Kafka { bootstrap: address }, ready: None, own: None })
}
