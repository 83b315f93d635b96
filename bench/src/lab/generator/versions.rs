//! Which version of each API is spoken: the newest that the server, the protocol module and the generator know.

use std::collections::BTreeMap;
use std::error::Error;

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use corelane::protocol::wire::Message;

use crate::client::{Client, answer_body, debug};
use crate::load::PRODUCE_VERSION;

/// Versions from which on topics have ids instead of names, or the generator has no use for what is new.
const NEWEST: &[(ApiKey, i16)] = &[
    (ApiKey::Produce, 12),
    // The newest whose lengths have a fixed size, so that an answer can be read as it streams in.
    (ApiKey::Fetch, 11),
    (ApiKey::Metadata, 12),
    (ApiKey::CreateTopics, 6),
    (ApiKey::FindCoordinator, 3),
    (ApiKey::ListOffsets, 7),
];

/// What a server speaks.
#[derive(Clone, Debug)]
pub(super) struct Versions {
    ranges: BTreeMap<i16, (i16, i16)>,
}

impl Versions {
    /// Asks a server.
    pub(super) fn ask(client: &mut Client) -> Result<Versions, Box<dyn Error>> {
        let answer = client.ask(0, &ApiVersionsRequest::default())?;
        let response =
            ApiVersionsResponse::decode(&mut answer_body(&answer, ApiKey::ApiVersions, 0)?, 0).map_err(debug)?;
        let ranges = response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(Versions { ranges })
    }

    /// What a floor speaks.
    pub(super) fn of_floor() -> Versions {
        Versions { ranges: BTreeMap::from([(ApiKey::Produce.code(), (PRODUCE_VERSION, PRODUCE_VERSION))]) }
    }

    /// The version to speak for a message.
    pub(super) fn of<M: Message>(&self) -> Result<i16, String> {
        let name = M::KEY.name();
        let (oldest, newest) = self.ranges.get(&M::KEY.code()).ok_or_else(|| format!("the server knows no {name}"))?;
        let ours = NEWEST.iter().find(|(key, _)| *key == M::KEY).map_or(i16::MAX, |(_, version)| *version);
        let version = (*newest).min(*M::VERSIONS.end()).min(ours);
        if version < *oldest || version < *M::VERSIONS.start() {
            return Err(format!("no version of {name} is known to both sides: the server has {oldest} to {newest}"));
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane::protocol::messages::fetch::FetchRequest;
    use corelane::protocol::messages::produce::ProduceRequest;

    #[test]
    fn the_newest_that_both_sides_know_is_spoken() {
        let versions = Versions { ranges: BTreeMap::from([(0, (0, 13)), (1, (4, 9))]) };
        assert_eq!(versions.of::<ProduceRequest<'_>>(), Ok(12));
        assert_eq!(versions.of::<FetchRequest<'_>>(), Ok(9));
        assert_eq!(Versions::of_floor().of::<ProduceRequest<'_>>(), Ok(PRODUCE_VERSION));
    }

    #[test]
    fn a_server_without_a_common_version_is_refused_in_words() {
        let versions = Versions { ranges: BTreeMap::from([(1, (12, 18))]) };
        assert_eq!(versions.of::<ProduceRequest<'_>>(), Err("the server knows no Produce".to_owned()));
        assert!(versions.of::<FetchRequest<'_>>().unwrap_err().contains("12 to 18"));
    }
}
