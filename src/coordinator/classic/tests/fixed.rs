//! Static members: one test per rule.

use super::*;

#[test]
fn a_static_member_that_restarts_keeps_its_place() {
    let mut world = World::new();
    let first = world.join(&Joiner::fixed("i"));
    assert!(first.member_id.starts_with("i-"));
    let old = first.member_id.into_owned();
    let sync = world.send_sync(&old, 1, &[(&old, "mine")]);
    assert_eq!(sync_error(&world.synced(sync)), ErrorCode::None);
    let records = world.records.len();

    let again = world.join(&Joiner::fixed("i"));
    let new = again.member_id.to_string();
    assert_ne!(new, old);
    assert_eq!((error(&again), again.generation_id, again.skip_assignment), (ErrorCode::None, 1, true));
    assert_eq!((&*again.leader, again.members.len()), (&*new, 1));
    assert_eq!(world.state(), "Stable");
    assert_eq!(world.records.len(), records + 1);
    assert_eq!(world.record().unwrap().members[0].member_id, new);
    assert_eq!(world.record().unwrap().members[0].assignment, b"mine");
    let sync = world.send_sync(&new, 1, &[]);
    assert_eq!(&*world.synced(sync).assignment, b"mine");

    assert_eq!(world.heartbeat_as(&old, Some("i"), 1), ErrorCode::FencedInstanceId);
    assert_eq!(world.heartbeat_as(&old, None, 1), ErrorCode::UnknownMemberId);
    assert_eq!(world.heartbeat_as(&new, Some("i"), 1), ErrorCode::None);
    let fenced = world.join(&Joiner { instance_id: Some("i".to_owned()), ..Joiner::member(&old) });
    assert_eq!((error(&fenced), fenced.protocol_name), (ErrorCode::FencedInstanceId, None));
    assert_eq!(errors(&world.leave(3, &[(&old, Some("i"))])), [ErrorCode::FencedInstanceId]);

    // Older clients are not told to skip: instead somebody else seems to lead.
    let older = world.join(&Joiner { version: 8, ..Joiner::fixed("i") });
    assert_eq!((&*older.leader, older.members.len(), older.skip_assignment), (&*new, 0, false));
    assert_eq!(errors(&world.leave(3, &[("", Some("i"))])), [ErrorCode::None]);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn a_static_member_that_restarts_in_a_rebalance_fences_what_waits() {
    let mut world = World::new();
    let (ids, _) = world.stable(1);
    let waiting = world.send_join(&Joiner { version: 5, ..Joiner::fixed("i") });
    let second = world.send_join(&Joiner::fixed("i"));
    let fenced = world.joined(waiting);
    assert_eq!((error(&fenced), fenced.protocol_name.as_deref()), (ErrorCode::FencedInstanceId, Some("")));
    world.join(&Joiner::member(&ids[0]));
    let joined = world.joined(second);
    assert_eq!(error(&joined), ErrorCode::None);
    // Between join and sync the leader knows the old id: everybody joins anew.
    let sync = world.send_sync_as(
        4,
        &SyncGroupRequest {
            group_id: "g".into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: Some("i".into()),
            ..SyncGroupRequest::default()
        },
    );
    let third = world.send_join(&Joiner::fixed("i"));
    assert_eq!(sync_error(&world.synced(sync)), ErrorCode::FencedInstanceId);
    assert_eq!(world.state(), "PreparingRebalance");
    world.join(&Joiner::member(&ids[0]));
    assert_eq!(world.joined(third).generation_id, joined.generation_id + 1);
}

#[test]
fn a_static_member_that_restarts_with_another_protocol_rebalances() {
    let mut world = World::new();
    let of = |name: &'static str| Joiner { protocols: vec![(name, Vec::new())], ..Joiner::fixed("i") };
    let both = Joiner { protocols: vec![("range", Vec::new()), ("sticky", Vec::new())], ..Joiner::fixed("i") };
    let first = world.join(&both);
    world.send_sync(&first.member_id, 1, &[]);
    assert_eq!(world.state(), "Stable");
    assert_eq!(error(&world.join(&of("other"))), ErrorCode::InconsistentGroupProtocol);
    let again = world.join(&of("sticky"));
    assert_eq!((again.generation_id, again.protocol_name.as_deref()), (2, Some("sticky")));
}

#[test]
fn a_static_member_outlives_its_connection_but_not_its_session() {
    let mut world = World::new();
    let (ids, _) = world.stable(1);
    let fixed = world.send_join(&Joiner::fixed("i"));
    world.join(&Joiner::member(&ids[0]));
    let generation = world.joined(fixed).generation_id;
    assert_eq!(world.member_ids().len(), 2);
    world.advance(5_000);
    world.heartbeat(&ids[0], generation);
    world.advance(5_000);
    assert_eq!(world.member_ids(), [ids[0].as_str()]);
}
