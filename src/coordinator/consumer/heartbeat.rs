//! ConsumerGroupHeartbeat: joins, heartbeats and leaves (`GroupMetadataManager.consumerGroupHeartbeat`).

mod request;

use self::request::{check_request, differs, is_all, is_full, is_leave, random_id, update};
use super::ConsumerGroup;
use super::member::{LEAVE_FOR_A_WHILE, Member, MemberState, Name, Standing};
use super::{pattern, reconcile, subscription};
use crate::coordinator::assignor::Partitions;
use crate::coordinator::records::{
    ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupRegularExpressionValue, Record,
};
use crate::coordinator::{Caller, Context, Coordinator, Environment, Group, Step};
use crate::limits;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest as Request, ConsumerGroupHeartbeatResponse as Response, TopicPartitions,
};

/// Why a heartbeat changes nothing: an error code, and what it does not say, in Kafka's words.
#[derive(Debug)]
struct Refusal {
    code: ErrorCode,
    message: String,
}

/// Who a heartbeat comes from.
#[derive(Debug)]
enum Arrival {
    /// Nobody known.
    New,
    /// A member.
    Known,
    /// A static member that is back, under another member id: this was its id.
    Replaces(Name),
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }

    fn into_response(self) -> Response<'static> {
        Response { error_code: self.code.code(), error_message: Some(self.message.into()), ..Default::default() }
    }
}

impl Coordinator {
    /// ConsumerGroupHeartbeat.
    pub fn consumer_heartbeat(
        &mut self,
        context: Context<'_>,
        caller: Caller<'_>,
        request: &Request<'_>,
    ) -> (Step, Response<'static>) {
        let mut step = Step::default();
        let answer = check_request(caller, request).and_then(|()| {
            if is_leave(request) {
                self.leave_consumer(context, request, &mut step)
            } else {
                self.hear_consumer(context, caller, request, &mut step)
            }
        });
        let response = answer.unwrap_or_else(|refusal| {
            debug_assert!(step.records.is_empty(), "a refused heartbeat changes nothing");
            refusal.into_response()
        });
        (step, response)
    }

    fn hear_consumer(
        &mut self,
        context: Context<'_>,
        caller: Caller<'_>,
        request: &Request<'_>,
        step: &mut Step,
    ) -> Result<Response<'static>, Refusal> {
        let id = &*request.group_id;
        let joins = request.member_epoch == 0;
        let room = self.groups.len() < limits::GROUPS_PER_COORDINATOR_MAX;
        let environment = &mut Environment { context, config: &self.config, timers: &mut self.timers, step };
        let replaces = match self.groups.get_mut(id) {
            Some(Group::Consumer(group)) => return group.heartbeat(environment, caller, request),
            Some(Group::Classic(_)) if !joins => return Err(not_a_consumer_group(id)),
            Some(Group::Classic(group)) if !group.is_empty() => {
                let why = "to consumer group because online upgrade is disabled.";
                return Err(Refusal::new(
                    ErrorCode::GroupIdNotFound,
                    format!("Cannot upgrade classic group {id} {why}"),
                ));
            }
            Some(Group::Classic(_)) => true,
            None if !joins => {
                return Err(Refusal::new(ErrorCode::GroupIdNotFound, format!("Consumer group {id} not found.")));
            }
            None if !room => {
                return Err(Refusal::new(ErrorCode::CoordinatorNotAvailable, "The coordinator has too many groups."));
            }
            None => false,
        };
        let name = Name::from(id);
        let mut group = ConsumerGroup::new(Name::clone(&name));
        let response = group.heartbeat(environment, caller, request)?;
        if replaces {
            // First, so that a replay deletes the old group before it builds the new one.
            step.records.insert(0, Record::Group(id.to_owned(), None));
        }
        self.groups.insert(name, Group::Consumer(group));
        Ok(response)
    }

    fn leave_consumer(
        &mut self,
        context: Context<'_>,
        request: &Request<'_>,
        step: &mut Step,
    ) -> Result<Response<'static>, Refusal> {
        let id = &*request.group_id;
        match self.groups.get_mut(id) {
            Some(Group::Consumer(group)) => group.leave(context, request, step),
            Some(Group::Classic(_)) => Err(not_a_consumer_group(id)),
            None => Err(Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {id} not found."))),
        }
    }
}

impl ConsumerGroup {
    /// A member joins, or says that it is there.
    fn heartbeat(
        &mut self,
        environment: &mut Environment<'_>,
        caller: Caller<'_>,
        request: &Request<'_>,
    ) -> Result<Response<'static>, Refusal> {
        let generated;
        let member_id = if request.member_id.is_empty() {
            generated = random_id(environment.context.random);
            &*generated
        } else {
            &*request.member_id
        };
        self.check_room(environment.config.consumer_group_size_max, &request.member_id)?;
        let arrival = self.check_arrival(member_id, request)?;
        let known = match &arrival {
            Arrival::New => None,
            Arrival::Known => self.members.get(member_id),
            Arrival::Replaces(id) => self.members.get(id),
        };
        let known = known.map(|member| &**member);
        let brings_pattern = self.check_pattern(known, request)?;
        check_state(known, request)?;

        // Nothing is refused from here on.
        let step = &mut *environment.step;
        if let Arrival::Replaces(id) = &arrival {
            self.replace(step, id, member_id);
        }
        let before = self.members.get(member_id).map(|member| member.standing.assigned.clone()).unwrap_or_default();
        let mut bump = self.epoch == 0;
        bump |= self.update_member(step, caller, request, member_id);
        bump |= self.match_patterns(environment, brings_pattern);
        self.update_assignment(environment, bump);
        self.reconcile(environment, member_id, request);
        self.renew_session(environment, member_id);
        Ok(self.answer(environment, caller, request, member_id, &before))
    }

    fn check_room(&self, group_size_max: i32, member_id: &str) -> Result<(), Refusal> {
        let size_max = usize::try_from(group_size_max).unwrap_or(0).min(limits::CONSUMER_GROUP_MEMBERS_MAX);
        if self.members.len() < size_max || self.members.contains_key(member_id) {
            return Ok(());
        }
        let message = format!("The consumer group has reached its maximum capacity of {size_max} members.");
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message))
    }

    /// Who sends the heartbeat, and whether it may.
    fn check_arrival(&self, member_id: &str, request: &Request<'_>) -> Result<Arrival, Refusal> {
        let joins = request.member_epoch == 0;
        let Some(instance) = request.instance_id.as_deref() else {
            return match self.members.get(member_id) {
                Some(member) => check_epoch(&member.standing, request).map(|()| Arrival::Known),
                None if joins => Ok(Arrival::New),
                None => Err(self.unknown_member(member_id)),
            };
        };
        if !joins {
            let id = self.check_instance(instance, member_id)?;
            return check_epoch(&self.members[id].standing, request).map(|()| Arrival::Known);
        }
        match self.static_members.get(instance) {
            Some(id) if self.members[id].standing.epoch == LEAVE_FOR_A_WHILE => Ok(Arrival::Replaces(Name::clone(id))),
            Some(id) => {
                let why = format!("cannot join the group because the instance id is owned by {id} member.");
                let message = format!("Static member {member_id} with instance id {instance} {why}");
                Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message))
            }
            None if self.members.contains_key(member_id) => Ok(Arrival::Known),
            None => Ok(Arrival::New),
        }
    }

    /// The member of an instance id, which must be the one that speaks.
    fn check_instance(&self, instance: &str, member_id: &str) -> Result<&Name, Refusal> {
        match self.static_members.get(instance) {
            Some(id) if **id == *member_id => Ok(id),
            Some(id) => {
                let message =
                    format!("Static member {member_id} with instance id {instance} was fenced by member {id}.");
                Err(Refusal::new(ErrorCode::FencedInstanceId, message))
            }
            None => Err(Refusal::new(ErrorCode::UnknownMemberId, format!("Instance id {instance} is unknown."))),
        }
    }

    fn unknown_member(&self, member_id: &str) -> Refusal {
        let message = format!("Member {member_id} is not a member of group {}.", self.id);
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }

    /// A pattern that no member has yet must be one, and not one too many. Returns whether the heartbeat brings such.
    fn check_pattern(&self, known: Option<&Member>, request: &Request<'_>) -> Result<bool, Refusal> {
        let new = request.subscribed_topic_regex.as_deref().filter(|pattern| !pattern.is_empty());
        let Some(pattern) = new.filter(|pattern| known.is_none_or(|member| member.pattern() != Some(pattern))) else {
            return Ok(false);
        };
        let entry = self.subscriptions.pattern(pattern);
        if entry.is_some_and(|entry| entry.members > 0) {
            return Ok(false);
        }
        if entry.is_none() && self.subscriptions.pattern_count() >= limits::SUBSCRIPTION_PATTERNS_PER_GROUP_MAX {
            let message = "The consumer group has too many different regular expressions.";
            return Err(Refusal::new(ErrorCode::CoordinatorNotAvailable, message));
        }
        pattern::compile(pattern).map(|_| true).map_err(|why| {
            let message = format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {why}.");
            Refusal::new(ErrorCode::InvalidRegularExpression, message)
        })
    }

    /// Gives the place of a static member that is back to its new member id: same subscription, target and partitions.
    fn replace(&mut self, step: &mut Step, old: &str, member_id: &str) {
        let Member { metadata, standing, .. } = Member::clone(&self.members[old]);
        let target = self.targets.get(old).cloned().unwrap_or_default();
        self.remove(step, old);
        self.emit(step, Record::ConsumerMember(self.member_key(member_id), Some(metadata)));
        self.emit(step, Record::ConsumerTargetMember(self.member_key(member_id), Some(target.to_list())));
        let standing = Standing { epoch: 0, previous_epoch: 0, ..standing };
        self.emit(step, Record::ConsumerCurrent(self.member_key(member_id), Some(standing.to_record())));
    }

    /// Notes what the member says of itself. Returns whether it subscribes to something else than before.
    fn update_member(&mut self, step: &mut Step, caller: Caller<'_>, request: &Request<'_>, member_id: &str) -> bool {
        let known = self.members.get(member_id);
        if known.is_some_and(|member| !differs(&member.metadata, caller, request)) {
            return false;
        }
        let before = known.map_or_else(|| Member::new().metadata, |member| member.metadata.clone());
        let mut metadata = before.clone();
        update(&mut metadata, caller, request);
        let mut bump = metadata.subscribed_topic_names != before.subscribed_topic_names;
        let patterns = [&before, &metadata].map(super::member::pattern_of);
        self.emit(step, Record::ConsumerMember(self.member_key(member_id), Some(metadata.clone())));
        if let [Some(old), new] = patterns
            && new != Some(old)
        {
            self.forget_unused_pattern(step, old);
            // Kafka leaves the epoch alone here, and the member keeps partitions that it does not subscribe to.
            bump |= new.is_none();
        }
        if let [old, Some(new)] = patterns
            && old != Some(new)
        {
            // A pattern that was not matched before raises the epoch once it is, if it matches something.
            bump |= old.is_some() || self.subscriptions.pattern(new).is_some_and(|pattern| pattern.topics.is_some());
        }
        bump
    }

    /// Matches patterns that were not matched yet, and all of them if the metadata has changed, but not too often. Returns
    /// whether one of them matches something else than before.
    fn match_patterns(&mut self, environment: &mut Environment<'_>, brings_pattern: bool) -> bool {
        if self.subscriptions.pattern_count() == 0 || !(brings_pattern || self.patterns_stale) {
            return false;
        }
        let Context { now, wall, image, .. } = environment.context;
        let rested = |at| now.since_us(at) >= limits::SUBSCRIPTION_PATTERN_REFRESH_MS * 1000;
        let all = self.patterns_stale && self.patterns_matched.is_none_or(rested);
        if all {
            self.patterns_stale = false;
            self.patterns_matched = Some(now);
        }
        let wanted = self.subscriptions.patterns().filter(|(_, pattern)| pattern.members > 0);
        let wanted: Vec<Name> = wanted
            .filter(|(_, entry)| all || entry.topics.is_none())
            .map(|(pattern, _)| Name::clone(pattern))
            .collect();
        let mut changed = false;
        for pattern in wanted {
            // One that a record brought may be too large for us: it matches nothing.
            let names =
                pattern::compile(&pattern).map(|regex| subscription::matches(&regex, image)).unwrap_or_default();
            let known = self.subscriptions.pattern(&pattern).and_then(|entry| entry.topics.as_ref());
            if known == Some(&names) {
                continue;
            }
            changed |= known.is_some() || !names.is_empty();
            let value = ConsumerGroupRegularExpressionValue {
                topics: names.iter().map(|name| name.to_string()).collect(),
                // Of Kafka's metadata log, which this is not part of: older than any.
                version: 0,
                timestamp: wall.value(),
            };
            let key = self.pattern_key(&pattern);
            self.emit(environment.step, Record::ConsumerRegularExpression(key, Some(value)));
        }
        changed
    }

    /// Raises the epoch if that is due, or if the subscribed topics have changed, and makes a target for a new epoch.
    fn update_assignment(&mut self, environment: &mut Environment<'_>, bump: bool) {
        let image = environment.context.image;
        if bump || self.topics_stale {
            let stale = std::mem::take(&mut self.topics_stale);
            let hash = if stale { self.subscriptions.metadata_hash(image) } else { self.metadata_hash };
            if bump || hash != self.metadata_hash {
                self.bump(environment.step, hash);
            }
        }
        if self.epoch > self.assignment_epoch {
            self.update_target(environment.step, image);
        }
    }

    /// Moves the member towards its target, as far as it can.
    fn reconcile(&mut self, environment: &mut Environment<'_>, member_id: &str, request: &Request<'_>) {
        let standing = &self.members[member_id].standing;
        if standing.is_reconciled_to(self.assignment_epoch) {
            return;
        }
        let target = self.targets.get(member_id).cloned().unwrap_or_default();
        let held = |topic, partition| self.held.contains_key(&(topic, partition));
        let owned = request.topic_partitions.as_deref();
        let next = reconcile::next(standing, self.assignment_epoch, &target, owned, held);
        let next = next.expect("a member in an unknown state was refused");
        if next == *standing {
            return;
        }
        let revokes = next.state == MemberState::UnrevokedPartitions;
        self.emit(environment.step, Record::ConsumerCurrent(self.member_key(member_id), Some(next.to_record())));
        if revokes {
            self.expect_revocation(environment, member_id);
        } else if let Some(member) = self.members.get_mut(member_id) {
            member.revocation.clear();
        }
    }

    /// The answer to a heartbeat. The assignment is in it if the member asks by a full request, or if it has changed, as with
    /// Kafka. It is also if the member was told of it over another connection and has not said since that it has it: then
    /// that answer may be lost. KIP-848 asks for a full request then, but librdkafka sends one only when the connection
    /// broke, not when it gave the answer up after its heartbeat interval. With Kafka such a member keeps what it should
    /// give up until it is fenced, and what it was given nobody reads.
    fn answer(
        &mut self,
        environment: &Environment<'_>,
        caller: Caller<'_>,
        request: &Request<'_>,
        member_id: &str,
        before: &Partitions,
    ) -> Response<'static> {
        let heartbeat_interval_ms = environment.consumer_heartbeat_interval_ms(&self.id);
        let member = self.members.get_mut(member_id).expect("it was updated");
        let assigned = &member.standing.assigned;
        let has_it = request.topic_partitions.as_deref().is_some_and(|owned| is_all(owned, assigned));
        let is_lost = !has_it && member.told_over.is_some_and(|connection| connection != caller.connection);
        #[cfg(corelane_defect = "assignment_told_once")]
        let is_lost = false;
        let is_told = is_full(request) || assigned != before || is_lost;
        if is_told {
            member.told_over = Some(caller.connection);
        } else if has_it {
            member.told_over = None;
        }
        Response {
            member_id: Some(member_id.to_owned().into()),
            member_epoch: member.standing.epoch,
            heartbeat_interval_ms,
            assignment: is_told.then(|| Assignment {
                topic_partitions: assigned
                    .topics()
                    .iter()
                    .map(|topic| TopicPartitions { topic_id: topic.topic_id, partitions: topic.partitions.clone() })
                    .collect(),
            }),
            ..Default::default()
        }
    }

    /// A member leaves: for good, or for a while if it is static.
    fn leave(
        &mut self,
        context: Context<'_>,
        request: &Request<'_>,
        step: &mut Step,
    ) -> Result<Response<'static>, Refusal> {
        let member_id = &*request.member_id;
        match request.instance_id.as_deref() {
            None if !self.members.contains_key(member_id) => return Err(self.unknown_member(member_id)),
            None => {}
            Some(instance) => {
                self.check_instance(instance, member_id)?;
            }
        }
        if request.member_epoch == LEAVE_FOR_A_WHILE {
            let standing = &self.members[member_id].standing;
            let standing = ConsumerGroupCurrentMemberAssignmentValue {
                member_epoch: LEAVE_FOR_A_WHILE,
                pending_revocation: Vec::new(),
                ..standing.to_record()
            };
            self.emit(step, Record::ConsumerCurrent(self.member_key(member_id), Some(standing)));
            // Its session goes on: that is how long its place is kept.
            self.member(member_id).revocation.clear();
        } else {
            self.fence(step, context.image, member_id);
        }
        let member_id = Some(member_id.to_owned().into());
        Ok(Response { member_id, member_epoch: request.member_epoch, ..Default::default() })
    }
}

fn not_a_consumer_group(id: &str) -> Refusal {
    Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {id} is not a consumer group."))
}

/// A member speaks in its epoch, or in the one before if the answer that told the new one may be lost: then it has nothing
/// that it was not given.
fn check_epoch(standing: &Standing, request: &Request<'_>) -> Result<(), Refusal> {
    let (got, known) = (request.member_epoch, standing.epoch);
    let which = match got.cmp(&known) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Greater => "greater",
        std::cmp::Ordering::Less => {
            let owned = request.topic_partitions.as_deref();
            if got == standing.previous_epoch && owned.is_some_and(|owned| is_subset(owned, &standing.assigned)) {
                return Ok(());
            }
            "smaller"
        }
    };
    let message = format!(
        "The consumer group member has a {which} member epoch ({got}) than the one known by the group coordinator \
         ({known}). The member must abandon all its partitions and rejoin."
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

fn is_subset(owned: &[TopicPartitions], assigned: &Partitions) -> bool {
    owned.iter().all(|topic| {
        let known = assigned.of(topic.topic_id);
        !known.is_empty() && topic.partitions.iter().all(|partition| known.binary_search(partition).is_ok())
    })
}

/// A member in a state that only a newer broker knows must come back with nothing.
fn check_state(known: Option<&Member>, request: &Request<'_>) -> Result<(), Refusal> {
    let is_unknown = known.is_some_and(|member| member.standing.state == MemberState::Unknown);
    if !is_unknown || request.topic_partitions.as_ref().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let message = "The consumer group member is in a unknown state. \
                   The member must abandon all its partitions and rejoin.";
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

#[cfg(test)]
mod tests;
