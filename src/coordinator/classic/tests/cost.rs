//! What groups cost: no work that grows with the square of the members, little memory, no timers that pile up.

use std::time::Instant;

use super::*;
use crate::types::ConnectionId;

#[test]
fn a_thousand_members_form_a_generation_quickly() {
    let began = Instant::now();
    let mut world = World::with(GroupConfig::default());
    let caller = Caller { version: 3, client_id: "client", client_host: "/127.0.0.1", connection: ConnectionId::NONE };
    let metadata = subscription::encode(&["topic-one", "topic-two"]);
    let mut tickets = Vec::new();
    for _ in 0..1_000 {
        let ticket = world.ticket();
        let request = JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 300_000,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: metadata.as_slice().into() }],
            ..JoinGroupRequest::default()
        };
        let (context, coordinator) = world.context();
        let step = coordinator.join(context, caller, ticket, &request);
        world.records.extend(step.records);
        tickets.push(ticket);
    }
    world.advance(6_000);
    let ids: Vec<String> = tickets.into_iter().map(|ticket| world.joined(ticket).member_id.into_owned()).collect();
    let leader = world.coordinator.groups.values().find_map(|group| match group {
        Group::Classic(group) => group.leader.as_deref().map(str::to_owned),
        Group::Consumer(_) => None,
    });
    let assignments: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), "a part of the whole")).collect();
    let ticket = world.send_sync(&leader.unwrap(), 1, &assignments);
    assert_eq!(world.synced(ticket).error_code, 0);
    // Unoptimised, on a busy machine: some 50 ms otherwise.
    assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
}

#[test]
fn heartbeats_and_members_that_come_and_go_leave_no_timers_behind() {
    let mut world = World::new();
    let (ids, generation) = world.stable(5);
    for _ in 0..1_000 {
        world.advance(100);
        for id in &ids {
            assert_eq!(world.heartbeat(id, generation), ErrorCode::None);
        }
    }
    for _ in 0..1_000 {
        let asked = world.join(&Joiner { version: 4, session_timeout_ms: 1_800_000, ..Joiner::plain() });
        world.leave(3, &[(&asked.member_id, None)]);
        for id in &ids {
            world.send_join(&Joiner::member(id));
        }
    }
    let mut entries = 0;
    while let Some(at) = world.coordinator.next_timer() {
        world.coordinator.timers.pop(at);
        entries += 1;
    }
    assert!(entries <= 6, "{entries} entries");
}

#[test]
fn an_idle_group_costs_little() {
    let mut world = World::new();
    world.stable(1);
    let Some(Group::Classic(group)) = world.coordinator.groups.get("g") else { panic!() };
    // With what the map of groups and one B-tree leaf of members take beside: under 2 KiB.
    let bytes = std::mem::size_of::<Group>() + 12 * 24 + group.bytes();
    assert!(bytes < 1536, "{bytes} bytes");
}
