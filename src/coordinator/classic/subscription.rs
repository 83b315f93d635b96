//! Which topics the members of a group of consumers read, as far as their metadata tells.

use std::collections::BTreeSet;

/// Topics in the metadata of one member: a version (i16), then Kafka's `ConsumerProtocolSubscription` 0, which every later
/// version begins with: an array of names, and bytes of the user. `None` when it is something else.
pub(super) fn topics(metadata: &[u8]) -> Option<Vec<&str>> {
    let mut rest = metadata;
    let version = i16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?);
    if version < 0 {
        return None;
    }
    let count = usize::try_from(length(&mut rest)?).ok()?;
    // A name takes two bytes at least.
    if count > rest.len() / 2 {
        return None;
    }
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let bytes = i16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?);
        topics.push(std::str::from_utf8(take(&mut rest, usize::try_from(bytes).ok()?)?).ok()?);
    }
    let user_data = length(&mut rest)?;
    if user_data >= 0 {
        take(&mut rest, usize::try_from(user_data).ok()?)?;
    }
    Some(topics)
}

/// The topics of several members. `None` when one of them cannot be read (`ClassicGroup.computeSubscribedTopics`).
pub(super) fn union<'a>(members: impl Iterator<Item = &'a [u8]>) -> Option<Box<[Box<str>]>> {
    let mut all = BTreeSet::new();
    for metadata in members {
        all.extend(topics(metadata)?);
    }
    Some(all.into_iter().map(Box::from).collect())
}

fn length(rest: &mut &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(take(rest, 4)?.try_into().ok()?))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

/// Such metadata, for tests.
#[cfg(test)]
pub(super) fn encode(topics: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0, 1];
    bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    // What later versions append.
    bytes.extend(0i32.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_all_members_are_known_once_each() {
        let (one, two) = (encode(&["b", "a"]), encode(&["b", "c"]));
        let all = union([one.as_slice(), two.as_slice()].into_iter()).unwrap();
        assert_eq!(all.iter().map(|topic| &**topic).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn metadata_of_another_kind_is_no_subscription() {
        assert_eq!(topics(b""), None);
        assert_eq!(topics(b"anything else"), None);
        let whole = encode(&["topic"]);
        for end in 0..whole.len() - 4 {
            assert_eq!(topics(&whole[..end]), None, "{end}");
        }
        assert_eq!(topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0]), None);
    }
}
