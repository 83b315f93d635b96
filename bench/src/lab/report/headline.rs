//! The headline: Corelane beside Kafka, in three rows of durability and never in one.

use maud::{Markup, PreEscaped, html};

use super::super::result::{Durability, TargetKind};
use super::chart::ratios::{RatioChart, RatioRow};
use super::figure::{Better, Metric, headline};
use super::group::{Figure, Group, by_workload, speaker};
use super::number;
use super::statistics::Ratio;
use super::verdict;

/// Themes whose workloads make headlines, and what is said of them behind their name.
const THEMES: [(&str, &str); 3] =
    [("throughput", "maximum"), ("latency", "fixed rate"), ("past-recycling", "past the recycling point")];

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

/// The lines of one workload.
pub(super) struct Block<'g, 'a> {
    pub(super) title: String,
    pub(super) lines: Vec<Line<'g, 'a>>,
}

/// What one row of durability says: a block for each headline workload in which one of the sides was measured.
pub(super) fn blocks<'g, 'a>(groups: &'g [Group<'a>], pair: &Pair) -> Vec<Block<'g, 'a>> {
    let themes = THEMES.iter().flat_map(|(theme, words)| {
        by_workload(groups, theme, |a, b| a == b).into_iter().map(move |family| (family, *words))
    });
    let blocks = themes.map(|(family, words)| Block {
        title: format!("{}, {words}", family[0].workload.name),
        lines: headline(family[0].workload).iter().filter_map(|metric| line(&family, pair, metric)).collect(),
    });
    blocks.filter(|block| !block.lines.is_empty()).collect()
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
    html! {
        section.headline {
            h2 { "Corelane and Kafka" }
            p {
                "A ratio above 1 is in Corelane's favour: more records, or less time or CPU. Bold is the median over the \
                 repeats, below it the smallest and the largest; for ratios these are the least and the most favourable \
                 pair of repeats. On every line stands the variant of Kafka that is best on that line, with its name; all \
                 variants are in the table of all trials. GB and MB are powers of ten and mean \
                 keys and values before compression. CPU is that of the server's process."
            }
            div.three {
                @for pair in &PAIRS {
                    @let blocks = blocks(groups, pair);
                    section.pair {
                        h3 { (pair.title) }
                        p.note { (pair.explanation) }
                        @if blocks.is_empty() {
                            p.missing { "Not measured in this run." }
                        } @else {
                            (ratio_chart(pair, &blocks))
                            (table(&blocks))
                        }
                    }
                }
            }
        }
    }
}

fn ratio_chart(pair: &Pair, blocks: &[Block<'_, '_>]) -> Markup {
    let rows: Vec<RatioRow> = blocks
        .iter()
        .flat_map(|block| block.lines.iter().map(move |line| (block, line)))
        .filter_map(|(block, line)| {
            let name = format!("{}: {}", block.title, line.metric.name);
            line.favour.map(|ratio| RatioRow { name, ratio })
        })
        .collect();
    html! {
        @if rows.is_empty() {
            p.missing { "No line below supports a ratio." }
        } @else {
            (RatioChart { title: format!("Ratios: {}", pair.title.to_lowercase()), rows }.draw())
        }
    }
}

fn table(blocks: &[Block<'_, '_>]) -> Markup {
    html! {
        div.scroll {
            table.figures {
                thead { tr { th { "" } th.figure { "Corelane" } th.figure { "Kafka, best" } th.figure { "in Corelane's favour" } } }
                @for block in blocks {
                    tbody {
                        tr.head { th colspan="4" scope="colgroup" { (block.title) } }
                        @for line in &block.lines {
                            tr {
                                th scope="row" { (line.metric.name) }
                                (side(line.corelane.as_ref(), line.metric))
                                (side(line.kafka.as_ref(), line.metric))
                                (favour(line))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn side(side: Option<&Side<'_, '_>>, metric: &Metric) -> Markup {
    html! {
        td.figure {
            @if let Some(side) = side { (figure(side.group, side.figure, metric)) } @else { span.missing { "not measured" } }
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

/// A median with its range, its variant, the trials behind it and what was objected to them.
pub(super) fn figure(group: &Group<'_>, figure: Figure, metric: &Metric) -> Markup {
    let objected = group.trials.len() - group.counting().count();
    let mut objections: Vec<&str> =
        group.trials.iter().flat_map(|numbered| &numbered.trial.verdict).map(verdict::short).collect();
    objections.dedup();
    let range = number::range(figure.spread, metric.notation);
    let repeats = match figure.spread.count {
        1 => "1 repeat".to_owned(),
        count => format!("{count} repeats"),
    };
    html! {
        @let median = (metric.notation)(figure.spread.median);
        @if figure.counts { strong { (median) } } @else { s { (median) } }
        @if !range.is_empty() { small { (range) } }
        @if !group.target.variant.is_empty() { small.variant { (group.target.variant) } }
        small { a href={ "#t" (group.trials[0].number) } { (PreEscaped(repeats)) } }
        @if objected > 0 {
            small.objection { (objections.join(", ")) @if figure.counts { " (" (objected) " left out)" } }
        }
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
        let places = PAIRS.map(|pair| text.find(pair.title));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
        assert!(text.contains("not measured"));
        assert!(text.contains("relies on replication"));
    }

    #[test]
    fn what_does_not_count_supports_no_ratio() {
        let run = fixture::run();
        let numbered = run.trials.iter().enumerate().map(|(number, trial)| Numbered { number, trial });
        let groups = groups(numbered);
        let blocks = blocks(&groups, &PAIRS[0]);
        let limited = blocks.iter().find(|block| block.title.starts_with("throughput-100b")).expect("it was measured");
        assert!(limited.lines.iter().all(|line| line.favour.is_none()));
        let sound = blocks.iter().find(|block| block.title.starts_with("throughput-1k")).expect("it was measured");
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
