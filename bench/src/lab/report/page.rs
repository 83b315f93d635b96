//! The page: its frame, its order, and a text that says how to read it.

use std::error::Error;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::super::result::Run;
use super::group::{Numbered, groups};
use super::{
    appendix, compare, floors, headline, numbered, over_time, percentile, resources, settings, sweep, verdict,
};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// One page over one or several runs; each stands for itself, because figures of different sittings do not compare.
///
/// Errors: a histogram that cannot be read.
pub(super) fn report(runs: &[Run]) -> Result<String, Box<dyn Error>> {
    let mut first = 0;
    let mut parts = Vec::new();
    for run in runs {
        let trials = numbered(&run.trials, first);
        first += trials.len();
        parts.push(part(run, &trials)?);
    }
    let body = html! {
        @if runs.len() > 1 {
            nav { "Sittings, each for itself: "
                @for (index, run) in runs.iter().enumerate() {
                    @if index > 0 { " · " }
                    a href={ "#run" (index) } { (run.suite) ", " (run.started) }
                }
            }
        }
        @for (index, part) in parts.iter().enumerate() { article id={ "run" (index) } { (part) } }
    };
    let title = runs.iter().map(|run| run.suite.as_str()).collect::<Vec<_>>().join(", ");
    Ok(frame(&format!("Corelane load lab: {title}"), &body))
}

/// One page that sets two runs side by side.
///
/// Errors: a histogram that cannot be read.
pub(super) fn comparison(a: &Run, b: &Run) -> Result<String, Box<dyn Error>> {
    let title = format!("Corelane load lab: {} beside {}", a.commit, b.commit);
    let body = html! { h1 { "A beside B" } (compare::body(a, b)?) };
    Ok(frame(&title, &body))
}

fn part(run: &Run, trials: &[Numbered<'_>]) -> Result<Markup, Box<dyn Error>> {
    let groups = groups(trials.iter().copied());
    let probe = run.probe.as_ref();
    Ok(html! {
        (opening(run))
        (verdict::section(trials))
        (headline::section(&groups))
        (percentile::by_percentile(&groups)?)
        (sweep::ladder(&groups))
        (over_time::latency(&groups))
        (over_time::throughput(&groups))
        (sweep::partitions(&groups))
        (over_time::catch_up(&groups))
        (floors::cpu(&groups))
        (floors::floor_share(&groups, probe))
        (floors::limit_shares(&groups, probe))
        (resources::under_load(&groups))
        (resources::idle_and_start(&groups))
        (settings::section(trials, &groups, &run.host, probe))
        (appendix::every_target(&groups))
        (appendix::section("All trials", trials))
    })
}

fn opening(run: &Run) -> Markup {
    html! {
        header {
            p.kind { "Corelane load lab" }
            h1 { (run.suite) }
            dl.facts {
                dt { "commit" } dd { code { (run.commit) } }
                dt { "began" } dd { (run.started) }
                dt { "host" } dd { (run.host.cpu) ", " (run.host.cores) " cores, Linux " (run.host.kernel) }
                dt { "command" } dd { code { (run.command) } }
                @for note in &run.notes { dt { "note" } dd { (note) } }
            }
            p {
                "How to read this: the same generator sent the same records to one server after the other, in turns, one \
                 server alive at a time. At a fixed rate every record has a moment at which it is due, and its latency counts \
                 from there whatever the server did before: a server that stalls is charged for everyone who waited. "
                em { "Written" } " and " em { "flushed" } " say when an acks=all write is answered: after the write, or after \
                 a flush that makes it safe from a power cut; the two are never mixed in one row. Lines are dashed for written \
                 and whole for flushed. A trial that was objected to is struck out and supports no ratio. Percentiles above the 99th \
                 hold the pauses of the machine itself, which all targets suffer alike; how late the generator was by them \
                 stands with the settings."
            }
        }
    }
}

fn frame(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main { (body) }
                div #value hidden {}
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
    .into_string()
}

#[cfg(test)]
mod tests {
    use super::super::super::result::Trial;
    use super::super::fixture;
    use super::*;

    /// No number that is none may reach a page, in text or in a picture. "NaN" and "inf" occur in no word of it.
    fn assert_sound(html: &str) {
        for word in ["NaN", "inf ", "inf<", "inf\"", "-inf"] {
            assert!(!html.contains(word), "{word} in the page");
        }
        let pictures: Vec<&str> = html.split("<svg").skip(1).collect();
        for picture in pictures {
            let end = picture.find("</svg>").expect("pictures end");
            let svg = format!("<svg{}</svg>", &picture[..end]);
            roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{error} in {svg}"));
        }
    }

    fn page_of(edit: impl Fn(&mut Run)) -> String {
        let mut run = fixture::run();
        edit(&mut run);
        let html = report(&[run]).expect("the histograms are sound");
        assert_sound(&html);
        html
    }

    #[test]
    fn a_whole_run_has_every_section_in_order() {
        let html = page_of(|_| ());
        let titles = [
            "How to read this",
            "trials count",
            "Corelane and Kafka",
            "Latency by percentile",
            "Rate ladder",
            "Latency over time",
            "Throughput over time",
            "Partitions",
            "Catch-up reads",
            "CPU per GB",
            "Share of the floor",
            "Memory, disk and context switches",
            "Idle",
            "Start",
            "Host",
            "Probe",
            "Targets",
            "Workloads",
            "Warm-up and generator",
            "Every target and variant",
            "All trials",
        ];
        let places = titles.map(|title| html.find(&format!(">{title}")).or_else(|| html.find(title)));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
    }

    #[test]
    fn every_trial_is_listed_and_every_link_leads_somewhere() {
        let html = page_of(|_| ());
        for number in 0..fixture::run().trials.len() {
            assert!(html.contains(&format!("id=\"t{number}\"")), "trial {number} is not listed");
        }
        for link in html.split("href=\"#").skip(1) {
            let id = link.split('"').next().expect("links end");
            assert!(html.contains(&format!("id=\"{id}\"")), "{id} is not there");
        }
    }

    #[test]
    fn the_page_needs_nothing_else() {
        let html = page_of(|_| ());
        for word in ["http://", "https://", "<link", "src=", "@import", "url("] {
            assert!(!html.contains(word), "{word} in the page");
        }
    }

    #[test]
    fn text_of_the_run_is_text() {
        let evil = "</script><script>alert('x')</script>\"&";
        let html = page_of(|run| {
            run.suite = evil.to_owned();
            run.command = evil.to_owned();
            run.host.details.insert(evil.to_owned(), evil.to_owned());
            for trial in &mut run.trials {
                trial.workload.name = format!("{}{evil}", trial.workload.name);
                trial.target.variant = evil.to_owned();
                trial.target.name = format!("{}{evil}", trial.target.name);
            }
        });
        assert!(!html.contains("<script>alert"));
        assert!(html.contains("&lt;script&gt;alert"));
    }

    #[test]
    fn missing_parts_are_said_to_be_missing() {
        let html = page_of(|run| {
            run.probe = None;
            for trial in &mut run.trials {
                (trial.server, trial.machine, trial.warm_up, trial.ready_ms) = (None, None, None, None);
                if let Some(load) = &mut trial.load {
                    (load.produce_latency, load.end_to_end_latency) = (None, None);
                    load.windows.clear();
                }
            }
        });
        assert!(html.contains("This run has no probe"));
        assert!(!html.contains("<h2>Latency over time"));
    }

    #[test]
    fn trials_without_load_and_no_trials_are_a_page_all_the_same() {
        page_of(|run| run.trials.iter_mut().for_each(|trial| trial.load = None));
        assert!(page_of(|run| run.trials.clear()).contains("This run has no trial."));
        let nothing = |trial: &mut Trial| {
            if let Some(load) = &mut trial.load {
                (load.seconds, load.produced) = (0.0, Default::default());
                load.windows.iter_mut().for_each(|window| *window = Default::default());
            }
            trial.server = trial.server.map(|_| Default::default());
        };
        page_of(|run| run.trials.iter_mut().for_each(nothing));
    }

    #[test]
    fn a_single_trial_is_drawn() {
        let html = report(&[fixture::single()]).expect("the histogram is sound");
        assert_sound(&html);
        assert!(html.contains("<h2>Latency by percentile") && html.contains("1 of 1 trials count"));
    }

    #[test]
    fn runs_on_one_page_share_no_figure() {
        let html = report(&[fixture::single(), fixture::single()]).expect("both are sound");
        assert_eq!(html.matches("1 of 1 trials count").count(), 2);
        assert!(html.contains("id=\"t0\"") && html.contains("id=\"t1\"") && html.contains("href=\"#run1\""));
    }

    #[test]
    fn a_broken_histogram_is_an_error_and_no_page() {
        let mut run = fixture::single();
        let load = run.trials[0].load.as_mut().expect("it has load");
        load.produce_latency.as_mut().expect("it has a latency").histogram = "?".to_owned();
        assert!(report(&[run]).is_err());
    }

    #[test]
    #[ignore = "writes the made-up pages to the temporary directory, for a look at them in a browser"]
    fn pages_to_look_at() {
        let write = |name: &str, html: String| std::fs::write(std::env::temp_dir().join(name), html).expect("writable");
        write("corelane-report.html", page_of(|_| ()));
        write("corelane-report-single.html", report(&[fixture::single()]).expect("sound"));
        let mut other = fixture::run();
        other.host.kernel = "7.1".to_owned();
        write("corelane-report-compare.html", comparison(&fixture::run(), &other).expect("sound"));
    }
}
