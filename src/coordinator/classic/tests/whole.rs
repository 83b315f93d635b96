//! The group as a whole: how it is shown, deleted, replayed and bounded; what commits and offsets ask of it.

use super::*;
use crate::limits;

#[test]
fn descriptions_are_kafkas() {
    let mut world = World::new();
    let unknown = world.describe(5, "g");
    assert_eq!((unknown.error_code, &*unknown.group_state, unknown.error_message), (0, "Dead", None));
    let unknown = world.describe(6, "g");
    assert_eq!(unknown.error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!((&*unknown.group_state, unknown.error_message.as_deref()), ("Dead", Some("Group g not found.")));

    let (ids, _) = world.stable(1);
    let stable = world.describe(6, "g");
    assert_eq!((&*stable.group_state, &*stable.protocol_type, &*stable.protocol_data), ("Stable", "consumer", "range"));
    let member = &stable.members[0];
    assert_eq!((&*member.member_id, &*member.client_id, &*member.client_host), (&*ids[0], "client", "/127.0.0.1"));
    assert_eq!(*member.member_metadata, *subscription::encode(&["t"]));
    assert_eq!(*member.member_assignment, *format!("part of {}", ids[0]).as_bytes());
    world.send_join(&Joiner::plain());
    let preparing = world.describe(6, "g");
    assert_eq!((&*preparing.group_state, &*preparing.protocol_data), ("PreparingRebalance", ""));
    assert_eq!(preparing.members.len(), 2);
    assert!(preparing.members.iter().all(|member| member.member_metadata.is_empty()));
}

#[test]
fn lists_are_filtered_whatever_the_case() {
    let mut world = World::new();
    world.stable(1);
    world.join(&Joiner { group: "other", version: 4, ..Joiner::plain() });
    assert_eq!(world.list(&[], &[]), ["g", "other"]);
    assert_eq!(world.list(&["STABLE "], &[]), ["g"]);
    assert_eq!(world.list(&["empty", "preparingrebalance"], &["Classic"]), ["other"]);
    assert!(world.list(&["nonsense"], &[]).is_empty());
    assert!(world.list(&[], &["consumer"]).is_empty());
    let listed = world.coordinator.list_groups(&ListGroupsRequest::default());
    assert_eq!((&*listed[0].protocol_type, &*listed[0].group_type), ("consumer", "classic"));
    assert_eq!((&*listed[1].protocol_type, &*listed[1].group_state), ("", "Empty"));
}

#[test]
fn only_groups_without_members_are_deleted() {
    let mut world = World::new();
    assert_eq!(world.delete("g"), ErrorCode::GroupIdNotFound);
    let (ids, _) = world.stable(1);
    assert_eq!(world.delete("g"), ErrorCode::NonEmptyGroup);
    world.leave(3, &[(&ids[0], None)]);
    world.join(&Joiner { version: 4, ..Joiner::plain() });
    assert_eq!(world.delete("g"), ErrorCode::None);
    assert_eq!(world.records.last(), Some(&Record::Group("g".to_owned(), None)));
    assert!(world.list(&[], &[]).is_empty());
    assert!(world.restarted().list(&[], &[]).is_empty());
    // Timers of the group that was are none of the next one's.
    world.join(&Joiner::plain());
    world.advance(100_000);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn commits_are_validated_by_state_member_and_generation() {
    let mut world = World::new();
    let (ids, generation) = world.stable(2);
    let validate = |world: &World, member_id: &str, instance_id: Option<&str>, generation: i32| {
        let Some(Group::Classic(group)) = world.coordinator.groups.get("g") else { panic!() };
        group.validate_offset_commit(member_id, instance_id, generation, 8)
    };
    assert_eq!(validate(&world, &ids[0], None, generation), Ok(()));
    assert_eq!(validate(&world, &ids[0], None, generation - 1), Err(ErrorCode::IllegalGeneration));
    assert_eq!(validate(&world, &ids[0], None, -1), Err(ErrorCode::IllegalGeneration));
    assert_eq!(validate(&world, "", None, -1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(validate(&world, "stranger", None, generation), Err(ErrorCode::UnknownMemberId));
    assert_eq!(validate(&world, &ids[0], Some("i"), generation), Err(ErrorCode::UnknownMemberId));
    // Before it joins again a member may commit what it read; then it waits for the assignment.
    world.send_join(&Joiner::member(&ids[0]));
    assert_eq!(validate(&world, &ids[1], None, generation), Ok(()));
    world.send_join(&Joiner::member(&ids[1]));
    assert_eq!(validate(&world, &ids[1], None, generation), Err(ErrorCode::IllegalGeneration));
    assert_eq!(validate(&world, &ids[1], None, generation + 1), Err(ErrorCode::RebalanceInProgress));
    world.leave(3, &[(&ids[0], None), (&ids[1], None)]);
    assert_eq!(validate(&world, "", None, -1), Ok(()));
    assert_eq!(validate(&world, &ids[0], None, generation + 1), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn offsets_expire_by_what_the_group_reads_and_since_when_it_is_empty() {
    let mut world = World::new();
    let group = |world: &World| {
        let Some(Group::Classic(group)) = world.coordinator.groups.get("g") else { panic!() };
        (group.expiry_base(7), group.is_subscribed_to("t"), group.is_subscribed_to("u"), group.is_empty())
    };
    world.join(&Joiner { version: 4, ..Joiner::plain() });
    assert_eq!(group(&world), (Some(7), false, false, false));
    let mut world = World::new();
    let (ids, _) = world.stable(1);
    assert_eq!(group(&world), (Some(7), true, false, false));
    assert_eq!(group(&world.restarted()), (Some(7), true, false, false));
    let unreadable = Joiner { protocols: vec![("range", b"?".to_vec())], ..Joiner::member(&ids[0]) };
    let generation = world.join(&unreadable).generation_id;
    assert_eq!(group(&world).0, None);
    world.send_sync(&ids[0], generation, &[]);
    assert_eq!(group(&world), (None, true, true, false));
    world.advance(10_000);
    let emptied = world.record().unwrap().current_state_timestamp;
    assert_eq!(group(&world), (Some(emptied), false, false, true));
    assert_eq!(group(&world.restarted()), (Some(emptied), false, false, true));
}

#[test]
fn a_restart_keeps_members_and_begins_their_sessions_anew() {
    let mut world = World::new();
    let (ids, generation) = world.stable(2);
    world.advance(9_000);
    world.heartbeat(&ids[0], generation);
    world.heartbeat(&ids[1], generation);
    let mut again = world.restarted();
    assert_eq!(again.describe(6, "g"), world.describe(6, "g"));
    again.advance(9_999);
    assert_eq!(again.heartbeat(&ids[1], generation), ErrorCode::None);
    let sync = again.send_sync(&ids[1], generation, &[]);
    assert_eq!(*again.synced(sync).assignment, *format!("part of {}", ids[1]).as_bytes());
    again.advance(1);
    assert_eq!(again.member_ids(), [ids[1].as_str()]);
}

#[test]
fn everything_that_waits_is_answered_when_the_coordinator_fails() {
    let mut world = World::new();
    let (ids, _) = world.stable(2);
    let join = world.send_join(&Joiner::member(&ids[0]));
    let answers = world.coordinator.fail(ErrorCode::NotCoordinator);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].0, join);
    let Answer::Join(response) = &answers[0].1 else { panic!() };
    assert_eq!((error(response), &*response.member_id), (ErrorCode::NotCoordinator, &*ids[0]));
    assert!(world.coordinator.fail(ErrorCode::NotCoordinator).is_empty());

    let mut world = World::new();
    let joined = world.join(&Joiner::plain());
    let other = world.send_join(&Joiner::plain());
    world.join(&Joiner { version: 3, ..Joiner::member(&joined.member_id) });
    let other = world.joined(other);
    let sync = world.send_sync(&other.member_id, other.generation_id, &[]);
    let answers = world.coordinator.fail(ErrorCode::NotCoordinator);
    assert_eq!(answers.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), [sync]);
}

#[test]
fn giant_metadata_and_assignments_find_their_bounds() {
    let mut world = World::new();
    let (ids, generation) = world.stable(1);
    let giant = vec![0; limits::GROUP_BYTES_MAX];
    let refused = world.join(&Joiner { protocols: vec![("range", giant.clone())], ..Joiner::plain() });
    assert_eq!(error(&refused), ErrorCode::GroupMaxSizeReached);
    let grown = Joiner { protocols: vec![("range", giant.clone())], ..Joiner::member(&ids[0]) };
    assert_eq!(error(&world.join(&grown)), ErrorCode::GroupMaxSizeReached);
    assert_eq!((world.state().as_str(), world.member_ids().len()), ("Stable", 1));

    let joined = world.join(&Joiner::member(&ids[0]));
    assert_eq!(joined.generation_id, generation + 1);
    let text = String::from_utf8(giant).unwrap();
    let records = world.records.len();
    let ticket = world.send_sync(&ids[0], generation + 1, &[(&ids[0], &text)]);
    assert_eq!(sync_error(&world.synced(ticket)), ErrorCode::UnknownServerError);
    assert_eq!((world.state().as_str(), world.records.len()), ("PreparingRebalance", records));

    // Several groups fill the coordinator, and make room again.
    let large = vec![0; limits::GROUP_BYTES_MAX - 4096];
    let fill = |group: &'static str| Joiner { group, protocols: vec![("range", large.clone())], ..Joiner::plain() };
    let mut world = World::new();
    for group in ["g", "a", "b", "c"] {
        assert_eq!(error(&world.join(&fill(group))), ErrorCode::None);
    }
    assert_eq!(error(&world.join(&fill("d"))), ErrorCode::CoordinatorLoadInProgress);
    world.advance(400_000);
    assert_eq!(error(&world.join(&fill("d"))), ErrorCode::None);
}
