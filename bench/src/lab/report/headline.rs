//! The headline: Corelane beside Kafka, in three rows of durability and never in one.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::super::result::{Durability, TargetKind};
use super::chart::ratios::{RatioChart, RatioRow};
use super::figure::{Better, CPU_S_PER_GB, Metric, headline, leading};
use super::group::{Figure, Group, families, speaker};
use super::number;
use super::pictures::rate_words;
use super::statistics::Ratio;
use super::verdict;

/// When each side answers an acks=all write.
pub(super) struct Pair {
    pub(super) title: &'static str,
    corelane: Durability,
    kafka: Durability,
    explanation: &'static str,
}

/// The rows, in the order in which they lead.
pub(super) const PAIRS: [Pair; 3] = [
    Pair {
        title: "Both written",
        corelane: Durability::Written,
        kafka: Durability::Written,
        explanation: "Both answer once the data is written and before any flush: Kafka's default, like for like. A power cut \
                      may take the last of it from either.",
    },
    Pair {
        title: "Corelane flushed, Kafka written",
        corelane: Durability::Flushed,
        kafka: Durability::Written,
        explanation: "Each as it is set up by default: Corelane answers after a flush, Kafka before. Not like for like: \
                      Corelane promises more.",
    },
    Pair {
        title: "Both flushed",
        corelane: Durability::Flushed,
        kafka: Durability::Flushed,
        explanation: "Both answer after a flush; Kafka with log.flush.interval.messages=1. Kafka is not normally run so: it \
                      relies on replication to other machines rather than on flushing.",
    },
];

/// One line: a metric of a workload on both sides.
pub(super) struct Line<'g, 'a> {
    pub(super) metric: &'static Metric,
    pub(super) corelane: Option<Side<'g, 'a>>,
    pub(super) kafka: Option<Side<'g, 'a>>,
    /// Above 1 where Corelane is better, whichever way the metric is; `None` unless both sides count.
    pub(super) favour: Option<Ratio>,
}

/// One side of it.
pub(super) struct Side<'g, 'a> {
    pub(super) group: &'g Group<'a>,
    pub(super) figure: Figure,
}

/// A side of a line.
type OfLine<'g, 'a> = for<'l> fn(&'l Line<'g, 'a>) -> Option<&'l Side<'g, 'a>>;

/// The lines of one workload.
pub(super) struct Block<'g, 'a> {
    /// The workload's name.
    pub(super) name: &'g str,
    /// What it is: a maximum or a rate, and how often it was repeated.
    pub(super) remark: String,
    /// The metric that speaks for the workload where there is room for one.
    leading: &'static Metric,
    pub(super) lines: Vec<Line<'g, 'a>>,
}

/// What one row of durability says: a block for each workload that both were given, in whatever durability.
pub(super) fn blocks<'g, 'a>(groups: &'g [Group<'a>], pair: &Pair) -> Vec<Block<'g, 'a>> {
    let both = |family: &Vec<&Group<'_>>| {
        let given = |kind| family.iter().any(|group| group.target.kind == kind);
        given(TargetKind::Corelane) && given(TargetKind::Kafka)
    };
    let families = families(groups).into_iter().filter(both);
    let blocks = families.map(|family| Block {
        name: &family[0].workload.name,
        remark: remark(&family),
        leading: leading(family[0].workload),
        lines: headline(family[0].workload).iter().filter_map(|metric| line(&family, pair, metric)).collect(),
    });
    blocks.filter(|block| !block.lines.is_empty()).collect()
}

/// The rate of a workload, its theme where that says more, and how often it was repeated.
fn remark(family: &[&Group<'_>]) -> String {
    let rate = rate_words(family[0].workload);
    match family[0].theme {
        "throughput" | "latency" => format!("{rate}, {}", repeats(family)),
        theme => format!("{rate}, {theme}, {}", repeats(family)),
    }
}

/// How often each of the two had its turn.
fn repeats(family: &[&Group<'_>]) -> String {
    let compared = |group: &&&Group<'_>| matches!(group.target.kind, TargetKind::Corelane | TargetKind::Kafka);
    let counts = || family.iter().filter(compared).map(|group| group.trials.len());
    match (counts().min().unwrap_or(0), counts().max().unwrap_or(0)) {
        (1, 1) => "once".to_owned(),
        (least, most) if least == most => format!("{most} repeats"),
        (least, most) => format!("{least} to {most} repeats"),
    }
}

fn line<'g, 'a>(family: &[&'g Group<'a>], pair: &Pair, metric: &'static Metric) -> Option<Line<'g, 'a>> {
    let side = |kind, durability| {
        let group = speaker(family, kind, durability, metric)?;
        Some(Side { group, figure: group.figure(metric)? })
    };
    let corelane = side(TargetKind::Corelane, pair.corelane);
    let kafka = side(TargetKind::Kafka, pair.kafka);
    if corelane.is_none() && kafka.is_none() {
        return None;
    }
    let favour = match (&corelane, &kafka) {
        (Some(corelane), Some(kafka)) if corelane.figure.counts && kafka.figure.counts => match metric.better {
            Better::More => Ratio::new(corelane.figure.spread, kafka.figure.spread),
            Better::Less => Ratio::new(kafka.figure.spread, corelane.figure.spread),
        },
        _ => None,
    };
    Some(Line { metric, corelane, kafka, favour })
}

/// All three rows, as pictures of the ratios and as tables.
pub(super) fn section(groups: &[Group<'_>]) -> Markup {
    let all = PAIRS.each_ref().map(|pair| blocks(groups, pair));
    let ratios = all.iter().flatten().flat_map(|block| &block.lines).filter_map(|line| line.favour);
    let ends: Vec<f64> = ratios.flat_map(|ratio| [ratio.min, ratio.max]).collect();
    if all.iter().all(Vec::is_empty) {
        return html! { p.missing { "No workload of this run was given to both Corelane and Kafka: there is nothing to compare." } };
    }
    html! {
        section.headline {
            h2 { "Corelane and Kafka" }
            p {
                "A ratio above 1 is in Corelane's favour: more records, or less time or CPU. Bold is the median over the \
                 repeats, below it the smallest and the largest, for ratios those of any two repeats; a figure leads to its \
                 first trial. On every line stands the variant of Kafka that is best on that line, with its name; all \
                 variants are in the table of all trials. GB and MB are powers of ten and mean \
                 keys and values before compression. CPU is that of the server's process."
            }
            div.three {
                @for (pair, blocks) in PAIRS.iter().zip(&all) {
                    section.pair {
                        h3 { (pair.title) }
                        p.note { (pair.explanation) }
                        @if blocks.is_empty() {
                            p.missing { "Not measured in this run." }
                        } @else {
                            (ratio_chart(pair, blocks, &ends))
                            (table(blocks))
                        }
                    }
                }
            }
        }
    }
}

/// The metric that leads and the CPU of every workload, as far as they support a ratio.
fn ratio_chart(pair: &Pair, blocks: &[Block<'_, '_>], ends: &[f64]) -> Markup {
    let mut rows = Vec::new();
    for block in blocks {
        let drawn = |line: &&Line<'_, '_>| [block.leading.name, CPU_S_PER_GB.name].contains(&line.metric.name);
        rows.extend(block.lines.iter().filter(drawn).filter_map(|line| {
            let (name, metric) = (block.name.to_owned(), line.metric.name);
            line.favour.map(|ratio| RatioRow { name, metric, ratio })
        }));
    }
    html! {
        @if rows.is_empty() {
            p.missing { "No line below supports a ratio." }
        } @else {
            (RatioChart { title: format!("Ratios: {}", pair.title.to_lowercase()), rows, ends: ends.to_vec() }.draw())
        }
    }
}

fn table(blocks: &[Block<'_, '_>]) -> Markup {
    html! {
        div.scroll {
            table.figures {
                thead { tr { th { "" } th.figure { "Corelane" } th.figure { "Kafka, best" } th.figure { "ratio" } } }
                @for block in blocks { (block_rows(block)) }
            }
        }
    }
}

fn block_rows(block: &Block<'_, '_>) -> Markup {
    let corelane = common(block, |line| line.corelane.as_ref());
    let kafka = common(block, |line| line.kafka.as_ref());
    html! {
        tbody {
            tr.head { th colspan="4" scope="colgroup" { (head(block, &[("Corelane", corelane), ("Kafka", kafka)])) } }
            @for line in &block.lines {
                tr {
                    th scope="row" { (line.metric.name) }
                    (cell(line.corelane.as_ref(), line.metric, corelane.is_some()))
                    (cell(line.kafka.as_ref(), line.metric, kafka.is_some()))
                    (favour(line))
                }
            }
        }
    }
}

/// The heading of a workload, with what is true of a side on all of its lines: said once, it need not stand on each.
fn head(block: &Block<'_, '_>, sides: &[(&str, Option<&Group<'_>>)]) -> Markup {
    html! {
        (block.name) " " span.note { (block.remark) }
        @for (name, group) in sides {
            @if let Some(group) = group {
                @if !group.target.variant.is_empty() { small { (name) ": " (group.target.variant) } }
                @let objections = objections(group);
                @if !objections.is_empty() { small.objection { (name) ": " (objections) } }
            }
        }
    }
}

/// The group that stands on a side of all lines; `None` where there are several.
fn common<'g, 'a>(block: &Block<'g, 'a>, side: OfLine<'g, 'a>) -> Option<&'g Group<'a>> {
    let mut groups = block.lines.iter().filter_map(side).map(|side| side.group);
    let first = groups.next()?;
    groups.all(|group| std::ptr::eq(group, first)).then_some(first)
}

fn cell(side: Option<&Side<'_, '_>>, metric: &Metric, said: bool) -> Markup {
    html! {
        td.figure {
            @if let Some(Side { group, figure }) = side {
                (median(group, *figure, metric))
                @if !said {
                    @let objections = objections(group);
                    @if !group.target.variant.is_empty() { small.variant { (group.target.variant) } }
                    @if !objections.is_empty() { small.objection { (objections) } }
                }
            } @else { span.missing { "not measured" } }
        }
    }
}

fn favour(line: &Line<'_, '_>) -> Markup {
    html! {
        td.figure {
            @if let Some(ratio) = line.favour {
                strong { (number::times(ratio)) }
                small { (number::times_range(ratio)) }
            } @else { span.missing { "no ratio" } }
        }
    }
}

/// A median that leads to its trials, with its range and what was objected to.
pub(super) fn figure(group: &Group<'_>, figure: Figure, metric: &Metric) -> Markup {
    let objections = objections(group);
    html! {
        (median(group, figure, metric))
        @if !objections.is_empty() { small.objection { (objections) } }
    }
}

/// A median that leads to its trials, with its range.
pub(super) fn median(group: &Group<'_>, figure: Figure, metric: &Metric) -> Markup {
    let range = number::range(figure.spread, metric.notation);
    html! {
        a href={ "#t" (group.trials[0].number) } {
            @let median = (metric.notation)(figure.spread.median);
            @if figure.counts { strong { (median) } } @else { s { (median) } }
        }
        @if !range.is_empty() { small { (range) } }
    }
}

/// What was objected to the repeats of a group, and how many were left out for it; empty where nothing was.
pub(super) fn objections(group: &Group<'_>) -> String {
    let names = group.trials.iter().flat_map(|numbered| &numbered.trial.verdict).map(verdict::short);
    let names = names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
    match group.counting().count() {
        0 => names,
        counting if counting < group.trials.len() => {
            format!("{} of {} left out: {names}", group.trials.len() - counting, group.trials.len())
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::super::group::{Numbered, groups};
    use super::*;

    fn text_of(edit: impl Fn(&mut Vec<super::super::super::result::Trial>)) -> String {
        let mut run = fixture::run();
        edit(&mut run.trials);
        let numbered = run.trials.iter().enumerate().map(|(number, trial)| Numbered { number, trial });
        section(&groups(numbered)).into_string()
    }

    #[test]
    fn durability_stands_in_three_rows_even_where_one_was_not_measured() {
        let text = text_of(|trials| trials.retain(|trial| trial.target.durability == Durability::Written));
        assert!(text.contains("Not measured in this run."), "neither was flushed");
        let places = PAIRS.map(|pair| text.find(pair.title));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
        assert!(text.contains("not measured"));
        assert!(text.contains("relies on replication"));
    }

    #[test]
    fn without_kafka_nothing_is_compared() {
        let text = text_of(|trials| trials.retain(|trial| trial.target.kind != TargetKind::Kafka));
        assert!(text.contains("nothing to compare") && !text.contains("Both written"));
    }

    #[test]
    fn what_does_not_count_supports_no_ratio() {
        let run = fixture::run();
        let numbered = run.trials.iter().enumerate().map(|(number, trial)| Numbered { number, trial });
        let groups = groups(numbered);
        let blocks = blocks(&groups, &PAIRS[0]);
        let limited = blocks.iter().find(|block| block.name == "throughput-100b").expect("it was measured");
        assert!(limited.lines.iter().all(|line| line.favour.is_none()));
        let sound = blocks.iter().find(|block| block.name == "throughput-1k").expect("it was measured");
        assert!(sound.lines.iter().all(|line| line.favour.is_some_and(|ratio| ratio.median > 1.0)));
        let text = section(&groups).into_string();
        assert!(text.contains("<s>") && text.contains("generator-limited"));
    }

    #[test]
    fn the_chosen_variant_of_kafka_is_named() {
        let text = text_of(|_| ());
        assert!(text.contains("all cores, 2 x threads"));
        assert!(!text.contains("header"), "an extra row is no headline");
    }
}
