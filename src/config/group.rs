//! Every configuration of single groups of Kafka 4.1: name, type, default, what it does here; and what coordinators read of it.
//!
//! A group's value is the one set on it, else the broker's own, else the default. Nobody asks whether there is a group of
//! that name: what is set waits for it and outlives it, as in Kafka.
//!
//! A value must fit the broker's settings (`group.consumer.min.session.timeout.ms` and its like) when it is set. If those become
//! narrower with a later start it still counts, as in Kafka; only the next change of the group must mend it.

use super::broker::{BrokerConfig, BrokerKey, Effect};
use super::value::{self, BadValue, Kind, Rule};
use super::{Configs, Source};

/// One configuration of a group.
#[derive(Debug)]
pub struct GroupKey {
    /// Kafka's name.
    pub name: &'static str,
    /// Type of its values.
    pub kind: Kind,
    /// Which values are allowed.
    pub rule: Rule,
    /// The value when nothing is set anywhere.
    pub default: &'static str,
    /// The broker's keys that stand for it. `None`: the group's own value or the default.
    pub broker: Option<BrokerKeys>,
    /// What it does.
    pub doc: &'static str,
    /// Whether it does it here.
    pub effect: Effect,
}

/// Names of the broker keys that a configuration of a group goes by.
#[derive(Debug)]
pub struct BrokerKeys {
    /// Gives the value of groups that set none.
    pub value: &'static str,
    /// The least value that a group may set. `None`: the rule says it.
    pub min: Option<&'static str>,
    /// The greatest.
    pub max: &'static str,
}

impl GroupKey {
    /// The configuration of that name.
    pub fn named(name: &str) -> Option<&'static GroupKey> {
        GROUP_KEYS.binary_search_by_key(&name, |key| key.name).ok().map(|index| &GROUP_KEYS[index])
    }

    /// What DescribeConfigs says about it.
    pub fn documentation(&self) -> String {
        self.effect.documentation(self.doc)
    }

    /// The value in force and where it comes from. Kafka calls the broker's value a default.
    pub fn effective(&self, broker: &BrokerConfig, group: &Configs) -> (String, Source) {
        if let Some(value) = group.get(self.name) {
            return (value.clone(), Source::Group);
        }
        let value = match &self.broker {
            Some(keys) => setting(broker, keys.value),
            None => self.default.to_owned(),
        };
        (value, Source::Default)
    }

    /// Checks a value and returns its canonical text.
    fn check(&'static self, broker: &BrokerConfig, text: &str) -> Result<String, GroupConfigError> {
        let value = value::check(self.kind, self.rule, text).map_err(|reason| GroupConfigError::Value {
            name: self.name,
            value: text.to_owned(),
            reason,
        })?;
        let Some(keys) = &self.broker else { return Ok(value) };
        let outside = |relation, bound, limit| GroupConfigError::Bound { name: self.name, relation, bound, limit };
        let (number, limit) = (integer(&value), |name| integer(&setting(broker, name)));
        match keys.min {
            Some(min) if number < limit(min) => Err(outside("greater", min, limit(min))),
            _ if number > limit(keys.max) => Err(outside("less", keys.max, limit(keys.max))),
            _ => Ok(value),
        }
    }
}

/// The value of a broker key that has a default.
fn setting(broker: &BrokerConfig, name: &str) -> String {
    let key = BrokerKey::named(name).expect("a test looks every name up");
    let own = broker.settings().get(name).map(String::as_str);
    own.or(key.default).expect("a test looks every default up").to_owned()
}

fn integer(text: &str) -> i64 {
    text.parse().expect("a checked INT is an integer")
}

/// Why the configuration of a group was refused: INVALID_CONFIG.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GroupConfigError {
    /// Kafka has no configuration of groups of that name.
    #[error("Unknown group config name: {name}{}", super::did_you_mean(.suggestion))]
    Unknown {
        /// The name.
        name: String,
        /// A name that looks like it.
        suggestion: Option<&'static str>,
    },
    /// The value is not one of the allowed.
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    Value {
        /// The configuration.
        name: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: BadValue,
    },
    /// The broker's settings do not allow the value.
    #[error("{name} must be {relation} than or equal to {bound}, which is {limit}")]
    Bound {
        /// The configuration.
        name: &'static str,
        /// `greater` or `less`.
        relation: &'static str,
        /// The broker key that bounds it.
        bound: &'static str,
        /// Its value.
        limit: i64,
    },
    /// Members would be gone before their next heartbeat.
    #[error("{session} must be greater than {heartbeat}")]
    SessionTooShort {
        /// The session timeout.
        session: &'static str,
        /// The heartbeat interval.
        heartbeat: &'static str,
    },
}

/// Checks what is to be set on a group, and returns it in canonical form. Names come first, as in Kafka.
pub fn validate<'a>(
    broker: &BrokerConfig,
    configs: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Configs, GroupConfigError> {
    let mut keys = Vec::new();
    for (name, value) in configs {
        let Some(key) = GroupKey::named(name) else {
            let suggestion = super::nearest(name, GROUP_KEYS.iter().map(|key| key.name));
            return Err(GroupConfigError::Unknown { name: name.to_owned(), suggestion });
        };
        keys.push((key, value));
    }
    let mut valid = Configs::new();
    for (key, value) in keys {
        valid.insert(key.name.to_owned(), key.check(broker, value)?);
    }
    let effective = |name| {
        let key = GroupKey::named(name).expect("every name used here is in GROUP_KEYS");
        integer(&key.effective(broker, &valid).0)
    };
    let too_short = SESSIONS.iter().find(|(session, heartbeat)| effective(session) <= effective(heartbeat));
    match too_short {
        Some((session, heartbeat)) => Err(GroupConfigError::SessionTooShort { session, heartbeat }),
        None => Ok(valid),
    }
}

/// Silence after which a member of this consumer group is gone, in milliseconds. `None`: the group does not say.
pub fn consumer_session_timeout_ms(group: &Configs) -> Option<i32> {
    milliseconds(group, CONSUMER_SESSION_TIMEOUT_MS)
}

/// How often members of this consumer group send heartbeats, in milliseconds. `None`: the group does not say.
pub fn consumer_heartbeat_interval_ms(group: &Configs) -> Option<i32> {
    milliseconds(group, CONSUMER_HEARTBEAT_INTERVAL_MS)
}

/// A stored value that this version would refuse counts as none.
fn milliseconds(group: &Configs, name: &str) -> Option<i32> {
    group.get(name)?.parse().ok().filter(|milliseconds| *milliseconds > 0)
}

const CONSUMER_HEARTBEAT_INTERVAL_MS: &str = "consumer.heartbeat.interval.ms";
const CONSUMER_SESSION_TIMEOUT_MS: &str = "consumer.session.timeout.ms";

/// Session timeouts and the heartbeat intervals that they must outlast.
const SESSIONS: &[(&str, &str)] = &[
    (CONSUMER_SESSION_TIMEOUT_MS, CONSUMER_HEARTBEAT_INTERVAL_MS),
    ("share.session.timeout.ms", "share.heartbeat.interval.ms"),
    ("streams.session.timeout.ms", "streams.heartbeat.interval.ms"),
];

const NO_SHARE_GROUPS: Effect = Effect::None("there are no share groups yet.");
const NO_STREAMS_GROUPS: Effect = Effect::None("there are no streams groups yet.");

/// Kafka 4.1's configurations of groups, by name.
pub static GROUP_KEYS: &[GroupKey] = &[
    GroupKey {
        name: CONSUMER_HEARTBEAT_INTERVAL_MS,
        kind: Kind::Int,
        rule: Rule::AtLeast(1),
        default: "5000",
        broker: Some(BrokerKeys {
            value: "group.consumer.heartbeat.interval.ms",
            min: Some("group.consumer.min.heartbeat.interval.ms"),
            max: "group.consumer.max.heartbeat.interval.ms",
        }),
        doc: "How often members of the consumer group shall send heartbeats, in milliseconds.",
        effect: Effect::Full,
    },
    GroupKey {
        name: CONSUMER_SESSION_TIMEOUT_MS,
        kind: Kind::Int,
        rule: Rule::AtLeast(1),
        default: "45000",
        broker: Some(BrokerKeys {
            value: "group.consumer.session.timeout.ms",
            min: Some("group.consumer.min.session.timeout.ms"),
            max: "group.consumer.max.session.timeout.ms",
        }),
        doc: "Silence after which a member of the consumer group is gone, in milliseconds. A change counts for a member from \
              its next heartbeat on.",
        effect: Effect::Full,
    },
    GroupKey {
        name: "share.auto.offset.reset",
        kind: Kind::String,
        rule: Rule::OffsetReset,
        default: "latest",
        broker: None,
        doc: "Where a share group starts in a partition: 'earliest', 'latest', or 'by_duration:' and how long ago.",
        effect: NO_SHARE_GROUPS,
    },
    GroupKey {
        name: "share.heartbeat.interval.ms",
        kind: Kind::Int,
        rule: Rule::AtLeast(1),
        default: "5000",
        broker: Some(BrokerKeys {
            value: "group.share.heartbeat.interval.ms",
            min: Some("group.share.min.heartbeat.interval.ms"),
            max: "group.share.max.heartbeat.interval.ms",
        }),
        doc: "How often members of the share group shall send heartbeats, in milliseconds.",
        effect: NO_SHARE_GROUPS,
    },
    GroupKey {
        name: "share.isolation.level",
        kind: Kind::String,
        rule: Rule::OneOf(&["read_committed", "read_uncommitted"]),
        default: "read_uncommitted",
        broker: None,
        doc: "Whether the share group reads records of transactions that are not committed.",
        effect: NO_SHARE_GROUPS,
    },
    GroupKey {
        name: "share.record.lock.duration.ms",
        kind: Kind::Int,
        rule: Rule::AtLeast(1000),
        default: "30000",
        broker: Some(BrokerKeys {
            value: "group.share.record.lock.duration.ms",
            min: Some("group.share.min.record.lock.duration.ms"),
            max: "group.share.max.record.lock.duration.ms",
        }),
        doc: "How long a record stays with the member of the share group that acquired it, in milliseconds.",
        effect: NO_SHARE_GROUPS,
    },
    GroupKey {
        name: "share.session.timeout.ms",
        kind: Kind::Int,
        rule: Rule::AtLeast(1),
        default: "45000",
        broker: Some(BrokerKeys {
            value: "group.share.session.timeout.ms",
            min: Some("group.share.min.session.timeout.ms"),
            max: "group.share.max.session.timeout.ms",
        }),
        doc: "Silence after which a member of the share group is gone, in milliseconds.",
        effect: NO_SHARE_GROUPS,
    },
    GroupKey {
        name: "streams.heartbeat.interval.ms",
        kind: Kind::Int,
        rule: Rule::AtLeast(1),
        default: "5000",
        broker: Some(BrokerKeys {
            value: "group.streams.heartbeat.interval.ms",
            min: Some("group.streams.min.heartbeat.interval.ms"),
            max: "group.streams.max.heartbeat.interval.ms",
        }),
        doc: "How often members of the streams group shall send heartbeats, in milliseconds.",
        effect: NO_STREAMS_GROUPS,
    },
    GroupKey {
        name: "streams.num.standby.replicas",
        kind: Kind::Int,
        rule: Rule::AtLeast(0),
        default: "0",
        broker: Some(BrokerKeys {
            value: "group.streams.num.standby.replicas",
            min: None,
            max: "group.streams.max.standby.replicas",
        }),
        doc: "Standby replicas of each task of the streams group.",
        effect: NO_STREAMS_GROUPS,
    },
    GroupKey {
        name: "streams.session.timeout.ms",
        kind: Kind::Int,
        rule: Rule::AtLeast(1),
        default: "45000",
        broker: Some(BrokerKeys {
            value: "group.streams.session.timeout.ms",
            min: Some("group.streams.min.session.timeout.ms"),
            max: "group.streams.max.session.timeout.ms",
        }),
        doc: "Silence after which a member of the streams group is gone, in milliseconds.",
        effect: NO_STREAMS_GROUPS,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(broker: &BrokerConfig, configs: &[(&str, &str)]) -> Result<String, String> {
        let valid = validate(broker, configs.iter().copied()).map_err(|error| error.to_string())?;
        Ok(valid.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn keys_are_sorted_and_their_defaults_pass_their_own_check() {
        for pair in GROUP_KEYS.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
        }
        for key in GROUP_KEYS {
            assert_eq!(key.check(&BrokerConfig::default(), key.default).as_deref(), Ok(key.default), "{}", key.name);
        }
    }

    #[test]
    fn every_broker_key_of_a_group_key_is_there_with_the_same_default() {
        for key in GROUP_KEYS {
            let Some(keys) = &key.broker else { continue };
            assert_eq!(BrokerKey::named(keys.value).unwrap().default, Some(key.default));
            for name in [Some(keys.value), keys.min, Some(keys.max)].into_iter().flatten() {
                let broker = BrokerKey::named(name).unwrap_or_else(|| panic!("{name} is missing"));
                assert!(broker.kind == Kind::Int && broker.default.is_some(), "{name}");
            }
        }
    }

    /// Values and words of Apache Kafka 4.1.1; it does not tell the bound itself.
    #[test]
    fn values_are_bounded_by_the_settings_of_the_broker() {
        let broker = BrokerConfig::default();
        let session = |value| check(&broker, &[("consumer.session.timeout.ms", value)]);
        assert_eq!(session(" +050000 "), Ok("consumer.session.timeout.ms=50000".to_owned()));
        let low = "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms";
        assert_eq!(session("44999"), Err(format!("{low}, which is 45000")));
        let high = "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms";
        assert_eq!(session("60001"), Err(format!("{high}, which is 60000")));
        let invalid = "Invalid value 0 for configuration consumer.session.timeout.ms: Value must be at least 1";
        assert_eq!(session("0"), Err(invalid.to_owned()));
        assert!(session("soon").unwrap_err().ends_with("Not a number of type INT"));
        let settings = [("group.consumer.min.session.timeout.ms", "6000")];
        let broker = BrokerConfig::from_settings(settings).unwrap();
        let low = [("consumer.session.timeout.ms", "6000")];
        assert_eq!(check(&broker, &low).as_deref(), Ok("consumer.session.timeout.ms=6000"));
    }

    #[test]
    fn a_session_must_outlast_the_heartbeat_interval_of_group_or_broker() {
        let settings = [
            ("group.consumer.min.session.timeout.ms", "4000"),
            ("group.consumer.min.heartbeat.interval.ms", "1000"),
            ("group.consumer.heartbeat.interval.ms", "6000"),
        ];
        let broker = BrokerConfig::from_settings(settings).unwrap();
        let refused = Err("consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms".to_owned());
        assert_eq!(check(&broker, &[("consumer.session.timeout.ms", "6000")]), refused);
        let both = |interval| {
            check(&broker, &[("consumer.session.timeout.ms", "6000"), ("consumer.heartbeat.interval.ms", interval)])
        };
        assert_eq!(both("6000"), refused);
        assert!(both("5999").is_ok());
    }

    /// They went by Kafka's defaults while the broker did not keep its own keys for them.
    #[test]
    fn keys_of_groups_that_are_not_there_go_by_the_settings_of_the_broker_too() {
        let settings = [
            ("group.share.min.session.timeout.ms", "1000"),
            ("group.share.max.heartbeat.interval.ms", "60000"),
            ("group.streams.max.standby.replicas", "5"),
            ("group.share.record.lock.duration.ms", "20000"),
        ];
        let broker = BrokerConfig::from_settings(settings).unwrap();
        assert!(check(&broker, &[("share.session.timeout.ms", "6000")]).is_ok());
        assert!(check(&BrokerConfig::default(), &[("share.session.timeout.ms", "6000")]).is_err());
        let both = [("share.session.timeout.ms", "50000"), ("share.heartbeat.interval.ms", "50000")];
        let refused = "share.session.timeout.ms must be greater than share.heartbeat.interval.ms";
        assert_eq!(check(&broker, &both), Err(refused.to_owned()));
        assert!(check(&broker, &[("streams.num.standby.replicas", "5")]).is_ok());
        assert!(check(&broker, &[("streams.num.standby.replicas", "6")]).is_err());
        assert!(check(&broker, &[("streams.num.standby.replicas", "-1")]).is_err());
        let lock = GroupKey::named("share.record.lock.duration.ms").unwrap();
        assert_eq!(lock.effective(&broker, &Configs::new()), ("20000".to_owned(), Source::Default));
    }

    #[test]
    fn an_unknown_name_comes_before_a_bad_value_and_gets_a_hint() {
        let broker = BrokerConfig::default();
        let configs = [("consumer.session.timeout.ms", "1"), ("consumer.heartbeat.intervall.ms", "1")];
        let hint = "(did you mean consumer.heartbeat.interval.ms?)";
        let refused = format!("Unknown group config name: consumer.heartbeat.intervall.ms {hint}");
        assert_eq!(check(&broker, &configs), Err(refused));
    }

    #[test]
    fn the_value_in_force_is_the_groups_or_the_brokers() {
        let broker = BrokerConfig::from_settings([("group.consumer.session.timeout.ms", "50000")]).unwrap();
        let key = GroupKey::named("consumer.session.timeout.ms").unwrap();
        let mut group = Configs::new();
        assert_eq!(key.effective(&broker, &group), ("50000".to_owned(), Source::Default));
        assert_eq!(consumer_session_timeout_ms(&group), None);
        group.insert(key.name.to_owned(), "55000".to_owned());
        assert_eq!(key.effective(&broker, &group), ("55000".to_owned(), Source::Group));
        assert_eq!(consumer_session_timeout_ms(&group), Some(55_000));
        assert_eq!(consumer_heartbeat_interval_ms(&group), None);
        group.insert(key.name.to_owned(), "-1".to_owned());
        assert_eq!(consumer_session_timeout_ms(&group), None, "no version of ours stored that");
    }

    #[test]
    fn keys_of_groups_that_are_not_there_say_that_they_have_no_effect() {
        for key in GROUP_KEYS {
            let of_consumers = key.name.starts_with("consumer.");
            assert_eq!(key.effect == Effect::Full, of_consumers, "{}", key.name);
            assert_ne!(key.documentation().contains("No effect in Corelane"), of_consumers, "{}", key.name);
        }
    }
}
