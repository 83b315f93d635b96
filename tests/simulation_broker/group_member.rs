//! Members of classic groups: a small consumer that joins, assigns if it leads, reads and commits, and does everything wrong
//! that a consumer on a bad network does.
//!
//! An assignment says which one it is, whose, of which generation and what of: 8 bytes, the length of the identity in one, the
//! identity, 4 bytes, and a partition in 4 each. Partitions are numbers up to [`PARTITIONS`]: topics do not matter to the broker.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use corelane::protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use corelane::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use corelane::protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use corelane::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use corelane::runtime::Runtime;
use corelane::simulation::random::Random;

use crate::connection::Connection;
use crate::group_calls::{
    Credentials, FENCED_INSTANCE, ILLEGAL_GENERATION, MEMBER_ID_REQUIRED, REBALANCE, REBALANCE_MS_MAX, UNKNOWN_MEMBER,
    UNKNOWN_TOPIC, ask, commit, connect, fetch, is_absent,
};
use crate::groups::{Groups, TOPICS, pause};
use crate::machine::Process;

/// How many partitions a group shares.
const PARTITIONS: i32 = 5;

/// A member, over all lives.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) group: &'static str,
    instance: Option<String>,
    session_ms: i32,
    rebalance_ms: i32,
    /// Empty while it has none.
    id: String,
    /// While it is in one and knows what to read.
    generation: Option<i32>,
    partitions: Vec<i32>,
    /// What it was before: id and generation.
    before: Option<(String, i32)>,
}

/// How a member goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    /// With the same connection.
    Again,
    /// With another one.
    Reconnect,
}

impl Member {
    pub(crate) fn draw(random: &mut Random, group: &'static str, index: u64) -> Member {
        Member {
            group,
            instance: random.chance(1, 3).then(|| format!("static-{index}")),
            session_ms: i32::try_from(random.range(1000..4000)).unwrap(),
            rebalance_ms: i32::try_from(random.range(1000..REBALANCE_MS_MAX)).unwrap(),
            id: String::new(),
            generation: None,
            partitions: Vec::new(),
            before: None,
        }
    }

    /// What stays the same under another id.
    fn identity(&self) -> String {
        self.instance.clone().unwrap_or_else(|| self.id.clone())
    }

    fn forget(&mut self) {
        if let Some(generation) = self.generation.take() {
            self.before = Some((self.id.clone(), generation));
        }
        self.partitions.clear();
    }

    fn forget_id(&mut self) {
        self.forget();
        self.id.clear();
    }
}

/// Whether the members of a group are in one generation and share all partitions.
pub(crate) fn is_settled<'a>(members: impl Iterator<Item = &'a Member>) -> bool {
    let members: Vec<&Member> = members.collect();
    let Some(first) = members.first() else { return true };
    let mut all: Vec<i32> = members.iter().flat_map(|member| &member.partitions).copied().collect();
    all.sort_unstable();
    first.generation.is_some()
        && members.iter().all(|member| member.generation == first.generation)
        && all.into_iter().eq(0..PARTITIONS)
}

/// A member where it lives.
struct Held {
    groups: Groups,
    index: usize,
}

impl Held {
    fn with<T>(&self, act: impl FnOnce(&mut Member) -> T) -> T {
        act(&mut self.groups.borrow_mut().members[self.index])
    }

    fn chance(&self, numerator: u64, denominator: u64) -> bool {
        let mut groups = self.groups.borrow_mut();
        !groups.settling && groups.random.chance(numerator, denominator)
    }

    /// A version of a request: static members need a later one.
    fn version(&self, first: u64, first_static: u64, last: u64) -> i16 {
        let is_static = self.with(|it| it.instance.is_some());
        let range = (if is_static { first_static } else { first })..last + 1;
        i16::try_from(self.groups.borrow_mut().random.range(range)).unwrap()
    }

    /// Who it is, and the moment and the newest generation known when it asks.
    fn asks(&self) -> (&'static str, String, Option<String>, (i32, u64)) {
        let (group, id, instance) = self.with(|it| (it.group, it.id.clone(), it.instance.clone()));
        let mut groups = self.groups.borrow_mut();
        let told = groups.classic[group].told;
        (group, id, instance, (told, groups.moment()))
    }
}

/// Works until the clients are told to leave.
pub(crate) async fn run(process: Rc<Process>, groups: Groups, index: usize) {
    let held = Held { groups: Rc::clone(&groups), index };
    let group = held.with(|it| it.group);
    while !groups.borrow().stopping {
        pause(&process.runtime, &groups).await;
        if held.chance(1, 10) {
            vanish(&process, &held).await;
        }
        let Some(connection) = connect(&process, &groups, group).await else { continue };
        while !groups.borrow().stopping {
            let next = match held.with(|it| it.generation) {
                None => join(&process, &held, &connection).await,
                Some(generation) => work(&process, &held, &connection, generation).await,
            };
            if next != Some(Next::Again) {
                break;
            }
            pause(&process.runtime, &groups).await;
        }
    }
}

/// Falls silent, for so long that it may be out, and may have forgotten who it was when it comes back.
async fn vanish(process: &Process, held: &Held) {
    let ms = held.with(|it| u64::from(it.session_ms.unsigned_abs()));
    let ms = held.groups.borrow_mut().random.below(2 * ms);
    process.runtime.sleep(Duration::from_millis(ms)).await;
    if held.chance(1, 2) {
        held.with(Member::forget_id);
    }
}

/// Joins and syncs. `None`: connect again.
async fn join(process: &Process, held: &Held, connection: &Connection) -> Option<Next> {
    let version = held.version(0, 5, 9);
    let (group, id, instance, (told, sent)) = held.asks();
    let (session_ms, rebalance_ms) = held.with(|it| (it.session_ms, it.rebalance_ms));
    let metadata = subscription();
    let protocol =
        |name: &'static str| JoinGroupRequestProtocol { name: Cow::Borrowed(name), metadata: Cow::Borrowed(&metadata) };
    let request = JoinGroupRequest {
        group_id: Cow::Borrowed(group),
        session_timeout_ms: session_ms,
        rebalance_timeout_ms: rebalance_ms,
        member_id: Cow::Borrowed(&id),
        group_instance_id: instance.as_deref().map(Cow::Borrowed),
        protocol_type: Cow::Borrowed("consumer"),
        protocols: vec![protocol("range"), protocol("roundrobin")],
        reason: None,
    };
    let answer = ask(process, &held.groups, connection, &request, version).await?;
    let response = JoinGroupResponse::decode(&mut answer.reader(), version).unwrap();
    let member = response.member_id.to_string();
    process.runtime.note("joined", [u64::from(response.error_code.unsigned_abs()), sent, 0]);
    match response.error_code {
        0 => {}
        MEMBER_ID_REQUIRED => {
            held.with(|it| it.id = member);
            return Some(Next::Again);
        }
        UNKNOWN_MEMBER | FENCED_INSTANCE => {
            held.with(Member::forget_id);
            return Some(Next::Again);
        }
        REBALANCE => return Some(Next::Again),
        error if is_absent(error) => return Some(Next::Reconnect),
        other => panic!("{group}: JoinGroup {version} of {id} failed with {other}"),
    }
    let generation = response.generation_id;
    held.with(|it| it.id.clone_from(&member));
    {
        let mut groups = held.groups.borrow_mut();
        let now = groups.moment();
        let model = groups.classic.get_mut(group).expect("it is one of them");
        model.on_joined(&member, instance.as_deref(), generation, told, now);
    }
    if held.chance(1, 30) {
        return Some(Next::Again); // Never sends its SyncGroup.
    }
    let leads = response.leader == member && !response.skip_assignment;
    let assignments = match leads {
        true => {
            let members: Vec<(String, Option<String>)> = response
                .members
                .iter()
                .map(|it| (it.member_id.to_string(), it.group_instance_id.as_deref().map(str::to_owned)))
                .collect();
            assert!(members.iter().any(|(id, _)| *id == member), "{group}: a leader is not among {members:?}");
            assign(held, version, generation, &members)
        }
        false => Vec::new(),
    };
    pause(&process.runtime, &held.groups).await;
    let protocol = response.protocol_name.as_deref().unwrap_or_default().to_owned();
    sync(process, held, connection, generation, &protocol, &assignments).await
}

/// What a consumer says of itself: version 1 of Kafka's `ConsumerProtocolSubscription`.
fn subscription() -> Vec<u8> {
    let mut bytes = vec![0, 1];
    bytes.extend(i32::try_from(TOPICS.len()).unwrap().to_be_bytes());
    for topic in &TOPICS {
        bytes.extend(i16::try_from(topic.name.len()).unwrap().to_be_bytes());
        bytes.extend(topic.name.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.extend(0_i32.to_be_bytes());
    bytes
}

/// Shares the partitions among the members. Versions before 5 do not tell the leader who is static.
fn assign(held: &Held, version: i16, generation: i32, members: &[(String, Option<String>)]) -> Vec<(String, Vec<u8>)> {
    let number = held.groups.borrow_mut().moment();
    let count = members.len();
    let of = |(index, (id, instance)): (usize, &(String, Option<String>))| {
        let identity = instance.as_ref().filter(|_| version >= 5).unwrap_or(id);
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.push(u8::try_from(identity.len()).unwrap());
        bytes.extend(identity.as_bytes());
        bytes.extend(generation.to_be_bytes());
        let mine = (0..PARTITIONS).filter(|partition| usize::try_from(*partition).unwrap() % count == index);
        mine.for_each(|partition| bytes.extend(partition.to_be_bytes()));
        (id.clone(), bytes)
    };
    members.iter().enumerate().map(of).collect()
}

async fn sync(
    process: &Process,
    held: &Held,
    connection: &Connection,
    generation: i32,
    protocol: &str,
    assignments: &[(String, Vec<u8>)],
) -> Option<Next> {
    let version = held.version(0, 3, 5);
    let (group, id, instance, at) = held.asks();
    let assignments = assignments.iter().map(|(id, bytes)| SyncGroupRequestAssignment {
        member_id: Cow::Borrowed(id),
        assignment: Cow::Borrowed(bytes),
    });
    let request = SyncGroupRequest {
        group_id: Cow::Borrowed(group),
        generation_id: generation,
        member_id: Cow::Borrowed(&id),
        group_instance_id: instance.as_deref().map(Cow::Borrowed),
        protocol_type: Some(Cow::Borrowed("consumer")),
        protocol_name: Some(Cow::Borrowed(protocol)),
        assignments: assignments.collect(),
    };
    let answer = ask(process, &held.groups, connection, &request, version).await?;
    let response = SyncGroupResponse::decode(&mut answer.reader(), version).unwrap();
    process.runtime.note("synced", [u64::from(response.error_code.unsigned_abs()), at.1, 0]);
    match response.error_code {
        0 => {}
        error => return on_error(held, "SyncGroup", error),
    }
    let bytes = &response.assignment;
    assert!(!bytes.is_empty(), "{group}: {id} was forgotten in generation {generation}");
    let number = u64::from_be_bytes(bytes[..8].try_into().unwrap());
    let end = 9 + usize::from(bytes[8]);
    let identity = std::str::from_utf8(&bytes[9..end]).unwrap();
    let numbers: Vec<i32> = bytes[end..].chunks(4).map(|chunk| i32::from_be_bytes(chunk.try_into().unwrap())).collect();
    let own = held.with(|it| it.identity());
    // A leader with an old version knows a static member by an id that it may have had before.
    let is_own =
        identity == id || identity.strip_prefix(&*own).is_some_and(|rest| instance.is_some() || rest.is_empty());
    assert!(is_own, "{group}: {own} was given what is for {identity}");
    assert_eq!(numbers[0], generation, "{group}: {own} was given what is of another generation");
    {
        let mut groups = held.groups.borrow_mut();
        let model = groups.classic.get_mut(group).expect("it is one of them");
        model.on_accepted("SyncGroup", &id, instance.as_deref(), generation, at);
        model.on_assigned(identity, generation, number, &numbers[1..]);
    }
    held.with(|it| {
        it.generation = Some(generation);
        it.partitions = numbers[1..].to_vec();
    });
    Some(Next::Again)
}

/// A request of a member was refused.
fn on_error(held: &Held, what: &str, error: i16) -> Option<Next> {
    match error {
        REBALANCE | ILLEGAL_GENERATION => held.with(Member::forget),
        UNKNOWN_MEMBER | FENCED_INSTANCE => held.with(Member::forget_id),
        error if is_absent(error) => return Some(Next::Reconnect),
        other => panic!("{what} of {} failed with {other}", held.with(|it| it.identity())),
    }
    Some(Next::Again)
}

/// One act of a member that knows what to read. `None`: connect again.
async fn work(process: &Process, held: &Held, connection: &Connection, generation: i32) -> Option<Next> {
    let act = {
        let mut groups = held.groups.borrow_mut();
        if groups.settling { groups.random.below(14) } else { groups.random.below(20) }
    };
    match act {
        0..8 => heartbeat(process, held, connection, None, generation).await,
        8..14 => commit_own(process, held, connection, None, generation).await,
        14 | 15 => {
            let group = held.with(|it| it.group);
            let error = fetch(process, &held.groups, connection, group, None).await?;
            assert!(error == 0 || is_absent(error), "{group}: OffsetFetch failed with {error}");
            Some(if error == 0 { Next::Again } else { Next::Reconnect })
        }
        16 | 17 => {
            // As if it did not know that it is something else by now.
            let Some((id, generation)) = held.with(|it| it.before.clone()) else { return Some(Next::Again) };
            match held.chance(1, 2) {
                true => heartbeat(process, held, connection, Some(&id), generation).await,
                false => commit_own(process, held, connection, Some(&id), generation).await,
            }
        }
        18 if held.chance(1, 3) => leave(process, held, connection).await,
        18 => {
            // Joins for no reason.
            held.with(Member::forget);
            Some(Next::Again)
        }
        _ => Some(if held.chance(1, 4) { Next::Reconnect } else { Next::Again }),
    }
}

/// Under its own id, or one that it had.
async fn heartbeat(
    process: &Process,
    held: &Held,
    connection: &Connection,
    other: Option<&str>,
    generation: i32,
) -> Option<Next> {
    let version = held.version(0, 3, 4);
    let (group, own, instance, at) = held.asks();
    let id = other.unwrap_or(&own);
    let request = HeartbeatRequest {
        group_id: Cow::Borrowed(group),
        generation_id: generation,
        member_id: Cow::Borrowed(id),
        group_instance_id: instance.as_deref().map(Cow::Borrowed),
    };
    let answer = ask(process, &held.groups, connection, &request, version).await?;
    let response = HeartbeatResponse::decode(&mut answer.reader(), version).unwrap();
    process.runtime.note("heartbeat", [u64::from(response.error_code.unsigned_abs()), at.1, 0]);
    if [0, REBALANCE].contains(&response.error_code) {
        let groups = held.groups.borrow();
        groups.classic[group].on_accepted("Heartbeat", id, instance.as_deref(), generation, at);
    }
    if other.is_some() || response.error_code == 0 {
        return Some(Next::Again);
    }
    if response.error_code == REBALANCE && held.chance(1, 2) {
        // Commits what it has before it gives that up.
        commit_own(process, held, connection, None, generation).await?;
    }
    if held.with(|it| it.generation).is_none() {
        return Some(Next::Again);
    }
    on_error(held, "Heartbeat", response.error_code)
}

async fn commit_own(
    process: &Process,
    held: &Held,
    connection: &Connection,
    other: Option<&str>,
    generation: i32,
) -> Option<Next> {
    let (group, own, instance, at) = held.asks();
    let id = other.unwrap_or(&own);
    let rows = [held.groups.borrow_mut().any_place()];
    let who = Credentials { member: id, instance: instance.as_deref(), generation };
    let error = commit(process, &held.groups, connection, group, who, &rows).await?;
    if error == 0 {
        let groups = held.groups.borrow();
        groups.classic[group].on_accepted("OffsetCommit", id, instance.as_deref(), generation, at);
    }
    if other.is_some() || [0, UNKNOWN_TOPIC].contains(&error) {
        return Some(Next::Again);
    }
    on_error(held, "OffsetCommit", error)
}

async fn leave(process: &Process, held: &Held, connection: &Connection) -> Option<Next> {
    let version = held.version(0, 3, 5);
    let (group, id, instance, _) = held.asks();
    let request = LeaveGroupRequest {
        group_id: Cow::Borrowed(group),
        member_id: Cow::Borrowed(&id),
        members: vec![MemberIdentity {
            member_id: Cow::Borrowed(&id),
            group_instance_id: instance.as_deref().map(Cow::Borrowed),
            reason: None,
        }],
    };
    let request = match version {
        0..3 => LeaveGroupRequest { members: Vec::new(), ..request },
        _ => LeaveGroupRequest { member_id: Cow::Borrowed(""), ..request },
    };
    held.with(Member::forget_id);
    let answer = ask(process, &held.groups, connection, &request, version).await?;
    let response = LeaveGroupResponse::decode(&mut answer.reader(), version).unwrap();
    let mut error = response.error_code;
    if error == 0 && version >= 3 {
        error = response.members[0].error_code;
    }
    process.runtime.note("left", [u64::from(error.unsigned_abs()), 0, 0]);
    match error {
        0 => {
            let mut groups = held.groups.borrow_mut();
            let now = groups.moment();
            groups.classic.get_mut(group).expect("it is one of them").on_left(&id, now);
        }
        UNKNOWN_MEMBER | FENCED_INSTANCE => {}
        error => assert!(is_absent(error), "{group}: LeaveGroup failed with {error}"),
    }
    Some(Next::Again)
}
