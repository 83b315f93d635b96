//! Kafka's APIs: their keys, the versions this broker speaks, and which headers their versions use.
//!
//! An API is advertised when it works, not before: clients switch features on by its presence. A lowest version is never
//! raised above Kafka 4.1's, because librdkafka before 2.11.1 looks for exact versions inside the range.

/// Declares every API of Kafka's `ApiKeys`: name, key and first flexible version (`-` for never).
macro_rules! api_keys {
    ($($name:ident = $key:literal, flexible $flexible:tt;)*) => {
        /// One of Kafka's APIs.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(i16)]
        pub enum ApiKey {$(
            #[doc = concat!("API ", stringify!($key), ".")]
            $name = $key,
        )*}

        impl ApiKey {
            /// Every API, by rising key.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$name,)*];

            /// The API of a key, `None` if Kafka 4.1 has none.
            pub const fn from_code(code: i16) -> Option<ApiKey> {
                match code {
                    $($key => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// The key on the wire.
            pub const fn code(self) -> i16 {
                match self {
                    $(ApiKey::$name => $key,)*
                }
            }

            /// Kafka's name of the API.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)*
                }
            }

            /// First version with compact lengths and tagged fields, `i16::MAX` if there is none.
            pub const fn flexible_since(self) -> i16 {
                match self {
                    $(ApiKey::$name => api_keys!(@flexible $flexible),)*
                }
            }
        }
    };
    (@flexible -) => { i16::MAX };
    (@flexible $version:literal) => { $version };
}

api_keys! {
    Produce = 0, flexible 9;
    Fetch = 1, flexible 12;
    ListOffsets = 2, flexible 6;
    Metadata = 3, flexible 9;
    LeaderAndIsr = 4, flexible 4;
    StopReplica = 5, flexible 2;
    UpdateMetadata = 6, flexible 6;
    ControlledShutdown = 7, flexible 3;
    OffsetCommit = 8, flexible 8;
    OffsetFetch = 9, flexible 6;
    FindCoordinator = 10, flexible 3;
    JoinGroup = 11, flexible 6;
    Heartbeat = 12, flexible 4;
    LeaveGroup = 13, flexible 4;
    SyncGroup = 14, flexible 4;
    DescribeGroups = 15, flexible 5;
    ListGroups = 16, flexible 3;
    SaslHandshake = 17, flexible -;
    ApiVersions = 18, flexible 3;
    CreateTopics = 19, flexible 5;
    DeleteTopics = 20, flexible 4;
    DeleteRecords = 21, flexible 2;
    InitProducerId = 22, flexible 2;
    OffsetForLeaderEpoch = 23, flexible 4;
    AddPartitionsToTxn = 24, flexible 3;
    AddOffsetsToTxn = 25, flexible 3;
    EndTxn = 26, flexible 3;
    WriteTxnMarkers = 27, flexible 1;
    TxnOffsetCommit = 28, flexible 3;
    DescribeAcls = 29, flexible 2;
    CreateAcls = 30, flexible 2;
    DeleteAcls = 31, flexible 2;
    DescribeConfigs = 32, flexible 4;
    AlterConfigs = 33, flexible 2;
    AlterReplicaLogDirs = 34, flexible 2;
    DescribeLogDirs = 35, flexible 2;
    SaslAuthenticate = 36, flexible 2;
    CreatePartitions = 37, flexible 2;
    CreateDelegationToken = 38, flexible 2;
    RenewDelegationToken = 39, flexible 2;
    ExpireDelegationToken = 40, flexible 2;
    DescribeDelegationToken = 41, flexible 2;
    DeleteGroups = 42, flexible 2;
    ElectLeaders = 43, flexible 2;
    IncrementalAlterConfigs = 44, flexible 1;
    AlterPartitionReassignments = 45, flexible 0;
    ListPartitionReassignments = 46, flexible 0;
    OffsetDelete = 47, flexible -;
    DescribeClientQuotas = 48, flexible 1;
    AlterClientQuotas = 49, flexible 1;
    DescribeUserScramCredentials = 50, flexible 0;
    AlterUserScramCredentials = 51, flexible 0;
    Vote = 52, flexible 0;
    BeginQuorumEpoch = 53, flexible 1;
    EndQuorumEpoch = 54, flexible 1;
    DescribeQuorum = 55, flexible 0;
    AlterPartition = 56, flexible 0;
    UpdateFeatures = 57, flexible 0;
    Envelope = 58, flexible 0;
    FetchSnapshot = 59, flexible 0;
    DescribeCluster = 60, flexible 0;
    DescribeProducers = 61, flexible 0;
    BrokerRegistration = 62, flexible 0;
    BrokerHeartbeat = 63, flexible 0;
    UnregisterBroker = 64, flexible 0;
    DescribeTransactions = 65, flexible 0;
    ListTransactions = 66, flexible 0;
    AllocateProducerIds = 67, flexible 0;
    ConsumerGroupHeartbeat = 68, flexible 0;
    ConsumerGroupDescribe = 69, flexible 0;
    ControllerRegistration = 70, flexible 0;
    GetTelemetrySubscriptions = 71, flexible 0;
    PushTelemetry = 72, flexible 0;
    AssignReplicasToDirs = 73, flexible 0;
    ListConfigResources = 74, flexible 0;
    DescribeTopicPartitions = 75, flexible 0;
    ShareGroupHeartbeat = 76, flexible 0;
    ShareGroupDescribe = 77, flexible 0;
    ShareFetch = 78, flexible 0;
    ShareAcknowledge = 79, flexible 0;
    AddRaftVoter = 80, flexible 0;
    RemoveRaftVoter = 81, flexible 0;
    UpdateRaftVoter = 82, flexible 0;
    InitializeShareGroupState = 83, flexible 0;
    ReadShareGroupState = 84, flexible 0;
    WriteShareGroupState = 85, flexible 0;
    DeleteShareGroupState = 86, flexible 0;
    ReadShareGroupStateSummary = 87, flexible 0;
    StreamsGroupHeartbeat = 88, flexible 0;
    StreamsGroupDescribe = 89, flexible 0;
    DescribeShareGroupOffsets = 90, flexible 0;
    AlterShareGroupOffsets = 91, flexible 0;
    DeleteShareGroupOffsets = 92, flexible 0;
}

impl ApiKey {
    /// Version of the header before a request: 2 when the request is flexible, else 1.
    pub const fn request_header_version(self, version: i16) -> i16 {
        if version >= self.flexible_since() { 2 } else { 1 }
    }

    /// Version of the header before a response: 1 when the response is flexible, else 0. ApiVersions always has 0, since
    /// its client cannot know yet what the broker speaks.
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            ApiKey::ApiVersions => 0,
            _ if version >= self.flexible_since() => 1,
            _ => 0,
        }
    }

    /// The versions this broker speaks, `None` if it does not know the API.
    pub fn supported(self) -> Option<&'static Supported> {
        SUPPORTED.iter().find(|supported| supported.key == self)
    }

    /// Whether requests of this API and version are answered.
    pub fn accepts(self, version: i16) -> bool {
        self.supported().is_some_and(|supported| (supported.accepted_min..=supported.max).contains(&version))
    }
}

/// An API that works, and its versions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Supported {
    /// The API.
    pub key: ApiKey,
    /// Lowest version advertised.
    pub advertised_min: i16,
    /// Lowest version answered.
    pub accepted_min: i16,
    /// Highest version advertised and answered.
    pub max: i16,
}

const fn supported(key: ApiKey, min: i16, max: i16) -> Supported {
    Supported { key, advertised_min: min, accepted_min: min, max }
}

/// Every API that works, by rising key: Kafka 4.1's ranges.
pub const SUPPORTED: &[Supported] = &[
    // Versions 0 to 2 are advertised but refused, as Kafka does: librdkafka derives features from them (KAFKA-18659).
    Supported { key: ApiKey::Produce, advertised_min: 0, accepted_min: 3, max: 13 },
    supported(ApiKey::Fetch, 4, 18),
    supported(ApiKey::ListOffsets, 1, 10),
    supported(ApiKey::Metadata, 0, 13),
    supported(ApiKey::OffsetCommit, 2, 9),
    supported(ApiKey::OffsetFetch, 1, 9),
    supported(ApiKey::FindCoordinator, 0, 6),
    supported(ApiKey::JoinGroup, 0, 9),
    supported(ApiKey::Heartbeat, 0, 4),
    supported(ApiKey::LeaveGroup, 0, 5),
    supported(ApiKey::SyncGroup, 0, 5),
    supported(ApiKey::DescribeGroups, 0, 6),
    supported(ApiKey::ListGroups, 0, 5),
    supported(ApiKey::ApiVersions, 0, 4),
    supported(ApiKey::CreateTopics, 2, 7),
    supported(ApiKey::DeleteTopics, 1, 6),
    supported(ApiKey::DeleteRecords, 0, 2),
    supported(ApiKey::InitProducerId, 0, 5),
    supported(ApiKey::OffsetForLeaderEpoch, 2, 4),
    supported(ApiKey::DescribeConfigs, 1, 4),
    supported(ApiKey::AlterConfigs, 0, 2),
    supported(ApiKey::DescribeLogDirs, 1, 4),
    supported(ApiKey::CreatePartitions, 0, 3),
    supported(ApiKey::DeleteGroups, 0, 2),
    supported(ApiKey::ElectLeaders, 0, 2),
    supported(ApiKey::IncrementalAlterConfigs, 0, 1),
    supported(ApiKey::ListPartitionReassignments, 0, 0),
    supported(ApiKey::OffsetDelete, 0, 0),
    supported(ApiKey::DescribeClientQuotas, 0, 1),
    supported(ApiKey::DescribeQuorum, 0, 2),
    supported(ApiKey::DescribeCluster, 0, 2),
    supported(ApiKey::DescribeProducers, 0, 0),
    supported(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    supported(ApiKey::ConsumerGroupDescribe, 0, 1),
    supported(ApiKey::ListConfigResources, 0, 1),
    supported(ApiKey::DescribeTopicPartitions, 0, 0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_names_lead_back_to_their_api() {
        for (index, key) in ApiKey::ALL.iter().enumerate() {
            assert_eq!(usize::try_from(key.code()).unwrap(), index);
            assert_eq!(ApiKey::from_code(key.code()), Some(*key));
        }
        assert_eq!(ApiKey::from_code(-1), None);
        assert_eq!(ApiKey::from_code(93), None);
        assert_eq!(ApiKey::Produce.name(), "Produce");
    }

    #[test]
    fn old_produce_versions_are_advertised_but_refused() {
        let produce = ApiKey::Produce.supported().unwrap();
        assert_eq!((produce.advertised_min, produce.max), (0, 13));
        assert!(!ApiKey::Produce.accepts(2));
        assert!(ApiKey::Produce.accepts(3));
        assert!(ApiKey::Produce.accepts(13));
        assert!(!ApiKey::Produce.accepts(14));
        assert!(!ApiKey::Vote.accepts(0));
    }

    #[test]
    fn api_versions_answers_with_the_old_header_in_every_version() {
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(3), 0);
        assert_eq!(ApiKey::Metadata.response_header_version(9), 1);
        assert_eq!(ApiKey::Metadata.response_header_version(8), 0);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
    }
}
