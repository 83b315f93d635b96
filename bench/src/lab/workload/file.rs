//! Reads a workload from a file: TOML of the lab, or YAML of the OpenMessaging Benchmark.

use std::error::Error;
use std::fs;
use std::path::Path;

use super::open_messaging::{self, Translation};

/// Reads a workload; of one of the OpenMessaging Benchmark with a driver file, if given, and with notes on what the lab does
/// in another way.
///
/// Errors: a file that cannot be read or is malformed, or a driver beside a workload of the lab.
pub(crate) fn read(file: &Path, driver: Option<&Path>) -> Result<Translation, Box<dyn Error>> {
    let text = text_of(file)?;
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
        let driver = driver.map(text_of).transpose()?;
        return Ok(open_messaging::read(&text, driver.as_deref()).map_err(|error| named(&error))?);
    }
    if driver.is_some() {
        return Err("--driver belongs to a .yaml workload of the OpenMessaging Benchmark".into());
    }
    let workload = toml::from_str(&text).map_err(|error| named(&error))?;
    Ok(Translation { workload, notes: Vec::new() })
}

fn text_of(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}
