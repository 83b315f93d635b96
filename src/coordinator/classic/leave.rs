//! LeaveGroup: members that go, or that an administrator takes out (`classicGroupLeaveToClassicGroup`).

use super::{ClassicGroup, State};
use crate::coordinator::Environment;
use crate::protocol::error_code::ErrorCode;

/// Who leaves.
#[derive(Clone, Copy)]
pub(super) struct Leaver<'a> {
    /// Empty to name a static member by its instance id alone.
    pub(super) member_id: &'a str,
    pub(super) instance_id: Option<&'a str>,
}

impl ClassicGroup {
    /// Takes members out and says for each how that went. One rebalance follows, whatever their number.
    pub(super) fn leave<'a>(
        &mut self,
        environment: &mut Environment<'_>,
        leavers: impl Iterator<Item = Leaver<'a>>,
    ) -> Vec<Result<(), ErrorCode>> {
        let results: Vec<_> = leavers.map(|leaver| self.leave_one(environment, leaver)).collect();
        if results.iter().any(Result::is_ok) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.prepare_rebalance(environment),
                State::PreparingRebalance => self.maybe_complete_join(environment),
                State::Empty => {}
            }
        }
        results
    }

    fn leave_one(&mut self, environment: &mut Environment<'_>, leaver: Leaver<'_>) -> Result<(), ErrorCode> {
        if leaver.member_id.is_empty() {
            let member_id = leaver.instance_id.and_then(|instance_id| self.static_members.get(instance_id).cloned());
            let member_id = member_id.ok_or(ErrorCode::UnknownMemberId)?;
            self.remove(&member_id, environment.step);
            return Ok(());
        }
        if self.remove_pending(leaver.member_id).is_some() {
            return Ok(());
        }
        self.validate_member(leaver.member_id, leaver.instance_id)?;
        self.remove(leaver.member_id, environment.step);
        Ok(())
    }
}
