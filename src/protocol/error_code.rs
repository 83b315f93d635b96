//! Kafka's error codes: what can go wrong, as clients know it. The wording is ours, codes and names are Kafka's `Errors`.

/// Declares every error: variant, code, Kafka's name and a short explanation.
macro_rules! error_codes {
    ($($variant:ident = $code:literal, $name:literal, $message:literal;)*) => {
        /// One of Kafka's error codes.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(i16)]
        pub enum ErrorCode {$(
            #[doc = concat!($message, ".")]
            $variant = $code,
        )*}

        impl ErrorCode {
            /// Every error, by rising code.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// The error of a code, `None` if Kafka 4.1 has none.
            pub const fn from_code(code: i16) -> Option<ErrorCode> {
                match code {
                    $($code => Some(ErrorCode::$variant),)*
                    _ => None,
                }
            }

            /// The code on the wire.
            pub const fn code(self) -> i16 {
                match self {
                    $(ErrorCode::$variant => $code,)*
                }
            }

            /// Kafka's name of the error.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $name,)*
                }
            }

            /// What it means, in short.
            pub const fn message(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $message,)*
                }
            }
        }
    };
}

error_codes! {
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", "something unexpected happened on the server";
    None = 0, "NONE", "no error";
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", "the offset lies outside the partition's log";
    CorruptMessage = 2, "CORRUPT_MESSAGE", "a batch fails its checksum, or its size is wrong";
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", "this node knows no such topic or partition";
    InvalidFetchSize = 4, "INVALID_FETCH_SIZE", "the fetch size is invalid";
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", "the partition has no leader at the moment";
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", "this node does not hold the partition";
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", "the request did not finish in time";
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", "the broker is not available";
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", "the replica is not available";
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", "a batch is larger than max.message.bytes";
    StaleControllerEpoch = 11, "STALE_CONTROLLER_EPOCH", "the controller has moved on to a later epoch";
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", "the metadata of an offset commit is too long";
    NetworkException = 13, "NETWORK_EXCEPTION", "the connection broke before an answer came";
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", "the coordinator is still loading its state";
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", "there is no coordinator at the moment";
    NotCoordinator = 16, "NOT_COORDINATOR", "this node is not the coordinator";
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", "the topic may not be used like this, or its name is invalid";
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", "the batches are larger than a segment";
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", "fewer replicas are in sync than the topic demands";
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "appended, but on fewer in-sync replicas than the topic demands";
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", "acks must be -1, 0 or 1";
    IllegalGeneration = 22, "ILLEGAL_GENERATION", "the group is at another generation";
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", "the member shares no protocol with its group";
    InvalidGroupId = 24, "INVALID_GROUP_ID", "the group id is invalid";
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", "the group has no such member";
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", "the session timeout is outside the broker's bounds";
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", "the group is rebalancing: join again";
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", "the offset commit is too large";
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", "not allowed on this topic";
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", "not allowed on this group";
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", "not allowed on the cluster";
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", "a timestamp is outside the topic's bounds";
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", "the SASL mechanism is not offered";
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", "the request does not fit the state of authentication";
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", "the version is not supported";
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", "a topic of this name exists";
    InvalidPartitions = 37, "INVALID_PARTITIONS", "the number of partitions is invalid";
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", "the replication factor is invalid, or larger than the number of nodes";
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", "the replica assignment is invalid";
    InvalidConfig = 40, "INVALID_CONFIG", "a configuration is unknown or its value invalid";
    NotController = 41, "NOT_CONTROLLER", "this node is not the controller";
    InvalidRequest = 42, "INVALID_REQUEST", "the request contradicts itself or breaks a rule";
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", "the message format cannot do this";
    PolicyViolation = 44, "POLICY_VIOLATION", "the request violates a policy";
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", "the sequence number leaves a gap";
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", "the sequence number was used before";
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", "a producer with a later epoch has taken over";
    InvalidTxnState = 48, "INVALID_TXN_STATE", "the transaction is in another state";
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", "the producer id is not that of the transactional id";
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", "the transaction timeout is longer than allowed";
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", "the previous transaction of this id is still completing";
    TransactionCoordinatorFenced = 52, "TRANSACTION_COORDINATOR_FENCED", "the transaction coordinator has been replaced";
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "not allowed on this transactional id";
    SecurityDisabled = 54, "SECURITY_DISABLED", "the security feature is disabled";
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", "not attempted, because another part of the request failed";
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", "the disk failed";
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", "there is no such log directory";
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", "authentication failed";
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", "nothing is known of this producer any more";
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", "the partition is being reassigned";
    DelegationTokenAuthDisabled = 61, "DELEGATION_TOKEN_AUTH_DISABLED", "delegation tokens are disabled";
    DelegationTokenNotFound = 62, "DELEGATION_TOKEN_NOT_FOUND", "there is no such delegation token";
    DelegationTokenOwnerMismatch = 63, "DELEGATION_TOKEN_OWNER_MISMATCH", "the delegation token belongs to somebody else";
    DelegationTokenRequestNotAllowed = 64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", "delegation tokens are not handed out on this connection";
    DelegationTokenAuthorizationFailed = 65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", "not allowed on this delegation token";
    DelegationTokenExpired = 66, "DELEGATION_TOKEN_EXPIRED", "the delegation token has expired";
    InvalidPrincipalType = 67, "INVALID_PRINCIPAL_TYPE", "the kind of principal is not supported";
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", "the group still has members";
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", "there is no such group";
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", "there is no such fetch session";
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", "the fetch session is at another epoch";
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", "the leader has no listener of that name";
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", "deleting topics is disabled";
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", "the client's leader epoch is older than the broker's";
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", "the client's leader epoch is newer than the broker's";
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", "the client cannot read, or may not send, this compression";
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", "the broker has registered again since";
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", "the new leader does not know its high watermark yet";
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", "join again with the member id of this answer";
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", "the preferred leader is not available";
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", "the group is full";
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", "another member has taken this instance id";
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", "no replica may become leader";
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", "the partition has its leader already";
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", "the partition is not being reassigned";
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", "a member of the group is subscribed to the topic";
    InvalidRecord = 87, "INVALID_RECORD", "a record or its batch breaks a rule";
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", "an offset waits for its transaction to end";
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", "the quota is used up";
    ProducerFenced = 90, "PRODUCER_FENCED", "another producer has taken over this transactional id";
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", "there is no such resource";
    DuplicateResource = 92, "DUPLICATE_RESOURCE", "a resource is named twice";
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL", "the credential is not acceptable";
    InconsistentVoterSet = 94, "INCONSISTENT_VOTER_SET", "the voters differ from those the receiver knows";
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", "the update was made on another version";
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", "the feature could not be updated";
    PrincipalDeserializationFailure = 97, "PRINCIPAL_DESERIALIZATION_FAILURE", "the forwarded principal cannot be read";
    SnapshotNotFound = 98, "SNAPSHOT_NOT_FOUND", "there is no such snapshot";
    PositionOutOfRange = 99, "POSITION_OUT_OF_RANGE", "the position lies outside the snapshot";
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", "this node knows no topic of that id";
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", "a broker of that id is registered";
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", "no broker of that id is registered";
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", "the topic id is not that of the log";
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", "the cluster id is another";
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", "there is no such transactional id";
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", "the fetch session mixes topic names and topic ids";
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", "a replica may not join the in-sync replicas";
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", "the partition got a new leader by this request";
    OffsetMovedToTieredStorage = 109, "OFFSET_MOVED_TO_TIERED_STORAGE", "the offset lies in tiered storage";
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", "the member's epoch is fenced: join again";
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", "another member still uses this instance id";
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", "the group does not support the assignor";
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", "the member's epoch is behind: take it from the next heartbeat";
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", "the request went to the wrong kind of endpoint";
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", "this kind of endpoint is not supported";
    UnknownControllerId = 116, "UNKNOWN_CONTROLLER_ID", "there is no such controller";
    UnknownSubscriptionId = 117, "UNKNOWN_SUBSCRIPTION_ID", "the telemetry subscription is another";
    TelemetryTooLarge = 118, "TELEMETRY_TOO_LARGE", "the telemetry is too large";
    InvalidRegistration = 119, "INVALID_REGISTRATION", "the registration is invalid";
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", "the transaction failed and must be aborted";
    InvalidRecordState = 121, "INVALID_RECORD_STATE", "the record is in another state of delivery";
    ShareSessionNotFound = 122, "SHARE_SESSION_NOT_FOUND", "there is no such share session";
    InvalidShareSessionEpoch = 123, "INVALID_SHARE_SESSION_EPOCH", "the share session is at another epoch";
    FencedStateEpoch = 124, "FENCED_STATE_EPOCH", "the share group's state is at a later epoch";
    InvalidVoterKey = 125, "INVALID_VOTER_KEY", "the voter key is not the receiver's";
    DuplicateVoter = 126, "DUPLICATE_VOTER", "the voter is a voter already";
    VoterNotFound = 127, "VOTER_NOT_FOUND", "there is no such voter";
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", "the regular expression is invalid";
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", "the client's metadata is stale: bootstrap again";
    StreamsInvalidTopology = 130, "STREAMS_INVALID_TOPOLOGY", "the topology is invalid";
    StreamsInvalidTopologyEpoch = 131, "STREAMS_INVALID_TOPOLOGY_EPOCH", "the epoch of the topology is invalid";
    StreamsTopologyFenced = 132, "STREAMS_TOPOLOGY_FENCED", "the topology is out of date";
    ShareSessionLimitReached = 133, "SHARE_SESSION_LIMIT_REACHED", "there are as many share sessions as allowed";
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_lead_back_to_their_errors_without_a_gap() {
        for (code, error) in (-1..).zip(ErrorCode::ALL) {
            assert_eq!(error.code(), code);
            assert_eq!(ErrorCode::from_code(code), Some(*error));
        }
        assert_eq!(ErrorCode::from_code(-2), None);
        assert_eq!(ErrorCode::from_code(134), None);
    }

    #[test]
    fn names_are_kafkas() {
        assert_eq!(ErrorCode::None.name(), "NONE");
        assert_eq!(ErrorCode::InvalidTopicException.to_string(), "INVALID_TOPIC_EXCEPTION");
        assert_eq!(ErrorCode::InvalidTxnState.name(), "INVALID_TXN_STATE");
        assert_eq!(ErrorCode::ShareSessionLimitReached.code(), 133);
    }
}
