//! Trials that belong together: repeats of one workload against one target, and which variant of a target speaks for it.

use super::super::result::{Durability, LoadResult, TargetKind, TargetSheet, Trial};
use super::super::workload::{Rate, Workload};
use super::figure::{Better, Metric};
use super::statistics::Spread;
use super::verdict;

/// A trial with its place among all trials of a page, by which links find it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered<'a> {
    pub(super) number: usize,
    pub(super) trial: &'a Trial,
}

/// Repeats of one workload against one target in one variant.
#[derive(Clone, Debug)]
pub(super) struct Group<'a> {
    pub(super) theme: &'a str,
    pub(super) workload: &'a Workload,
    pub(super) target: &'a TargetSheet,
    /// At least one.
    pub(super) trials: Vec<Numbered<'a>>,
}

/// What the repeats of a group say of one metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figure {
    /// Over the repeats that count, or over all where none does.
    pub(super) spread: Spread,
    /// False where no repeat counts: the figure supports nothing.
    pub(super) counts: bool,
}

impl<'a> Group<'a> {
    /// The repeats without objections.
    pub(super) fn counting(&self) -> impl Iterator<Item = &'a Trial> {
        self.trials.iter().map(|numbered| numbered.trial).filter(|trial| trial.verdict.is_empty())
    }

    /// The repeats that figures are taken from: those that count, or all where none does.
    pub(super) fn speaking(&self) -> Vec<&'a Trial> {
        let counting: Vec<&Trial> = self.counting().collect();
        if counting.is_empty() { self.trials.iter().map(|numbered| numbered.trial).collect() } else { counting }
    }

    /// One metric over the repeats; `None` where no repeat has it.
    pub(super) fn figure(&self, metric: &Metric) -> Option<Figure> {
        let spread = Spread::of(self.speaking().into_iter().filter_map(metric.of))?;
        Some(Figure { spread, counts: !self.is_void() })
    }

    /// The load of the repeat in the middle by one metric: what pictures over time show.
    pub(super) fn middle(&self, metric: &Metric) -> Option<(Numbered<'a>, &'a LoadResult)> {
        let median = self.figure(metric)?.spread.median;
        let speaking = self.trials.iter().filter(|numbered| self.is_void() || numbered.trial.verdict.is_empty());
        let with_load = speaking.filter_map(|&numbered| Some((numbered, numbered.trial.load.as_ref()?)));
        with_load.filter(|(numbered, _)| (metric.of)(numbered.trial).is_some()).min_by(|(a, _), (b, _)| {
            let distance = |of: &Numbered<'_>| (metric.of)(of.trial).map_or(f64::INFINITY, |v| (v - median).abs());
            distance(a).total_cmp(&distance(b))
        })
    }

    /// True when no repeat counts.
    pub(super) fn is_void(&self) -> bool {
        self.counting().next().is_none()
    }

    /// The target's name, with its variant where it has one.
    pub(super) fn label(&self) -> String {
        label(self.target)
    }

    /// True when both are the same target in the same variant.
    pub(super) fn same_target(&self, target: &TargetSheet) -> bool {
        let own = self.target;
        own.kind == target.kind
            && own.durability == target.durability
            && own.name == target.name
            && own.variant == target.variant
    }
}

/// A target's name, with its variant where it has one.
pub(super) fn label(target: &TargetSheet) -> String {
    match target.variant.as_str() {
        variant if variant.is_empty() || target.name.contains(variant) => target.name.clone(),
        variant => format!("{} ({variant})", target.name),
    }
}

/// All trials with their numbers put into groups, in the order in which groups first appear.
pub(super) fn groups<'a>(trials: impl IntoIterator<Item = Numbered<'a>>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for numbered in trials {
        let trial = numbered.trial;
        let same = |group: &&mut Group<'a>| {
            group.theme == trial.theme && group.same_target(&trial.target) && *group.workload == trial.workload
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.trials.push(numbered),
            None => groups.push(Group {
                theme: &trial.theme,
                workload: &trial.workload,
                target: &trial.target,
                trials: vec![numbered],
            }),
        }
    }
    groups
}

/// Groups of one theme, apart by workload as `same` sees it, in the order of their first appearance.
pub(super) fn by_workload<'g, 'a>(
    groups: &'g [Group<'a>],
    theme: &str,
    same: impl Fn(&Workload, &Workload) -> bool,
) -> Vec<Vec<&'g Group<'a>>> {
    let mut families: Vec<Vec<&Group<'a>>> = Vec::new();
    for group in groups.iter().filter(|group| group.theme == theme) {
        match families.iter_mut().find(|family| same(family[0].workload, group.workload)) {
            Some(family) => family.push(group),
            None => families.push(vec![group]),
        }
    }
    families
}

/// The group that speaks for a kind of server at a durability, by one metric: its plain variant, but of Kafka the one that
/// is best on this metric.
///
/// A variant with which the server failed does not take part, unless all failed. One that does not count for another reason
/// does: it might have been better still, and a worse one in its place would flatter us.
pub(super) fn speaker<'g, 'a>(
    groups: &[&'g Group<'a>],
    kind: TargetKind,
    durability: Durability,
    metric: &Metric,
) -> Option<&'g Group<'a>> {
    let candidates = groups.iter().copied();
    let candidates = candidates.filter(|group| group.target.kind == kind && group.target.durability == durability);
    candidates.min_by(|a, b| {
        let sound = |group: &Group<'_>| {
            let mut objections = group.trials.iter().flat_map(|numbered| &numbered.trial.verdict);
            !group.is_void() || !objections.any(verdict::server_failed)
        };
        let plain = |group: &Group<'_>| kind == TargetKind::Kafka || group.target.variant.is_empty();
        let cost = |group: &Group<'_>| match (group.figure(metric), metric.better) {
            (Some(figure), Better::Less) => figure.spread.median,
            (Some(figure), Better::More) => -figure.spread.median,
            (None, _) => f64::INFINITY,
        };
        plain(b).cmp(&plain(a)).then(sound(b).cmp(&sound(a))).then(cost(a).total_cmp(&cost(b)))
    })
}

/// One group for each kind of server and durability, by one metric, in a fixed order: what pictures show.
pub(super) fn speakers<'g, 'a>(groups: &[&'g Group<'a>], metric: &Metric) -> Vec<&'g Group<'a>> {
    use Durability::{Flushed, Unknown, Written};
    use TargetKind::{Corelane, External, FloorRaw, FloorRuntime, Kafka};
    let kinds = [Corelane, Kafka, FloorRuntime, FloorRaw];
    let ordered = kinds.into_iter().flat_map(|kind| [Written, Flushed, Unknown].map(|durability| (kind, durability)));
    let mut chosen: Vec<_> =
        ordered.filter_map(|(kind, durability)| speaker(groups, kind, durability, metric)).collect();
    // Addresses are servers of their own: none speaks for another.
    chosen.extend(groups.iter().copied().filter(|group| group.target.kind == External));
    chosen.retain(|group| group.figure(metric).is_some());
    chosen
}

/// Themes with sections of their own: what is raised step by step, and what carries no load.
const APART: [&str; 4] = ["ladder", "partitions", "idle", "start-time"];
/// Themes that come first, in this order; others follow as they appear.
const FIRST: [&str; 3] = ["throughput", "latency", "past-recycling"];

/// The groups of all workloads that stand for themselves, apart by workload.
pub(super) fn families<'g, 'a>(groups: &'g [Group<'a>]) -> Vec<Vec<&'g Group<'a>>> {
    let mut themes = Vec::from(FIRST);
    for group in groups {
        if !APART.contains(&group.theme) && !themes.contains(&group.theme) {
            themes.push(group.theme);
        }
    }
    themes.into_iter().flat_map(|theme| by_workload(groups, theme, |a, b| a == b)).collect()
}

/// True when two workloads differ in nothing but their rate and their name.
pub(super) fn same_but_rate(a: &Workload, b: &Workload) -> bool {
    let stripped = |workload: &Workload| Workload { name: String::new(), rate: Rate::Max, ..workload.clone() };
    stripped(a) == stripped(b)
}

/// True when two workloads differ in nothing but their partitions and their name.
pub(super) fn same_but_partitions(a: &Workload, b: &Workload) -> bool {
    let stripped = |workload: &Workload| Workload { name: String::new(), topics: 1, partitions: 1, ..workload.clone() };
    stripped(a) == stripped(b)
}

#[cfg(test)]
mod tests {
    use super::super::super::result::Objection;
    use super::super::figure::{MB_PER_S, P99};
    use super::super::fixture;
    use super::*;

    fn numbered(trials: &[Trial]) -> Vec<Numbered<'_>> {
        trials.iter().enumerate().map(|(number, trial)| Numbered { number, trial }).collect()
    }

    #[test]
    fn repeats_of_one_variant_are_one_group() {
        let run = fixture::run();
        let groups = groups(numbered(&run.trials));
        assert_eq!(groups.iter().map(|group| group.trials.len()).sum::<usize>(), run.trials.len());
        let throughput: Vec<_> = groups.iter().filter(|group| group.workload.name == "throughput-1k").collect();
        assert!(throughput.iter().all(|group| group.trials.len() == 3));
    }

    #[test]
    fn the_best_variant_of_kafka_speaks_and_the_plain_one_of_corelane() {
        let run = fixture::run();
        let groups = groups(numbered(&run.trials));
        let one: Vec<_> = groups.iter().filter(|group| group.workload.name == "throughput-1k").collect();
        let kafka = speaker(&one, TargetKind::Kafka, Durability::Written, &MB_PER_S).expect("it was measured");
        let others = one.iter().filter(|group| group.same_but_variant(kafka));
        let best = kafka.figure(&MB_PER_S).expect("it has load").spread.median;
        assert!(others.into_iter().all(|other| other.figure(&MB_PER_S).is_some_and(|f| f.spread.median <= best)));
        let corelane = speaker(&one, TargetKind::Corelane, Durability::Written, &MB_PER_S).expect("it was measured");
        assert_eq!(corelane.target.variant, "");
    }

    #[test]
    fn no_worse_variant_of_kafka_stands_in_for_one_that_the_generator_held_back() {
        let mut run = fixture::run();
        run.trials.retain(|trial| trial.workload.name == "throughput-1k" && trial.target.name == "kafka written");
        let fastest = "all cores, 2 x threads";
        let mut object = |objection: &Objection| {
            for trial in run.trials.iter_mut().filter(|trial| trial.target.variant == fastest) {
                trial.verdict = vec![objection.clone()];
            }
            let groups = groups(numbered(&run.trials));
            let all: Vec<_> = groups.iter().collect();
            let kafka = speaker(&all, TargetKind::Kafka, Durability::Written, &MB_PER_S).expect("it was measured");
            (kafka.target.variant.clone(), kafka.figure(&MB_PER_S).expect("it has load").counts)
        };
        assert_eq!(object(&fixture::generator_limited()), (fastest.to_owned(), false));
        assert_eq!(object(&Objection::NotSustained { acknowledged_share: 0.5 }), ("1 GiB heap".to_owned(), true));
    }

    #[test]
    fn objected_repeats_are_left_out_of_the_median() {
        let mut run = fixture::run();
        run.trials.retain(|trial| trial.workload.name == "throughput-1k" && trial.target.name == "corelane written");
        run.trials.retain(|trial| trial.target.variant.is_empty());
        run.trials[0].verdict = vec![fixture::generator_limited()];
        let groups_of = groups(numbered(&run.trials));
        let figure = groups_of[0].figure(&MB_PER_S).expect("two count");
        assert_eq!((figure.spread.count, figure.counts), (2, true));

        for trial in &mut run.trials {
            trial.verdict = vec![fixture::generator_limited()];
        }
        let groups_of = groups(numbered(&run.trials));
        let figure = groups_of[0].figure(&MB_PER_S).expect("it is shown all the same");
        assert_eq!((figure.spread.count, figure.counts), (3, false));
        assert_eq!(groups_of[0].figure(&P99), None);
    }

    impl Group<'_> {
        fn same_but_variant(&self, other: &Group<'_>) -> bool {
            self.target.kind == other.target.kind && self.target.durability == other.target.durability
        }
    }
}
