//! How a target looks in every picture and table: colour by what it is, dashes by its durability, and a marker, so that no
//! one needs to tell colours apart. The colours themselves stand in `page.css`, for light and for dark.

use maud::{Markup, html};

use super::super::result::{Durability, TargetKind, TargetSheet};

/// The classes and the marker of one target.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Look {
    /// For `page.css`.
    pub(super) class: String,
    marker: Marker,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
}

impl Look {
    pub(super) fn of(target: &TargetSheet) -> Look {
        let (kind, marker) = match target.kind {
            TargetKind::Corelane => ("corelane", Marker::Circle),
            TargetKind::Kafka => ("kafka", Marker::Square),
            TargetKind::FloorRaw => ("floor-raw", Marker::Triangle),
            TargetKind::FloorRuntime => ("floor-runtime", Marker::Diamond),
            TargetKind::External => ("external", Marker::Cross),
        };
        let durability = match target.durability {
            Durability::Written => "written",
            Durability::Flushed => "flushed",
            Durability::Unknown => "unknown",
        };
        Look { class: format!("{kind} {durability}"), marker }
    }

    /// What was measured beside the servers: the machine itself.
    pub(super) fn probe() -> Look {
        Look { class: "probe flushed".to_owned(), marker: Marker::Cross }
    }

    /// The same target in the older of two runs.
    pub(super) fn older(&self) -> Look {
        Look { class: format!("{} older", self.class), marker: self.marker }
    }

    /// A marker of a picture; hollow and crossed out where the figure does not count.
    pub(super) fn marker(&self, x: f64, y: f64, counts: bool) -> Markup {
        let path = match self.marker {
            Marker::Circle => format!("M{:.1} {y:.1}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0Z", x - 3.5),
            Marker::Square => format!("M{:.1} {:.1}h6.4v6.4h-6.4Z", x - 3.2, y - 3.2),
            Marker::Triangle => format!("M{x:.1} {:.1}l4.2 7.4h-8.4Z", y - 4.4),
            Marker::Diamond => format!("M{x:.1} {:.1}l4.4 4.4l-4.4 4.4l-4.4 -4.4Z", y - 4.4),
            Marker::Cross => {
                format!("M{:.1} {:.1}h2.4v2.4h2.4v2.4h-2.4v2.4h-2.4v-2.4h-2.4v-2.4h2.4Z", x - 1.2, y - 3.6)
            }
        };
        html! {
            path.marker.void[!counts] d=(path) {}
            @if !counts {
                path.struck d=(format!("M{:.1} {:.1}l12 -12m0 12l-12 -12", x - 6.0, y + 6.0)) {}
            }
        }
    }

    /// A piece of its line with its marker, for tables.
    pub(super) fn sample(&self) -> Markup {
        html! {
            svg.sample.(self.class) viewBox="0 0 30 12" width="30" height="12" aria-hidden="true" {
                path.line d="M1 6H29" {}
                (self.marker(15.0, 6.0, true))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::target;
    use super::*;

    #[test]
    fn targets_differ_in_more_than_colour() {
        let corelane = Look::of(&target(TargetKind::Corelane, Durability::Written, ""));
        let kafka = Look::of(&target(TargetKind::Kafka, Durability::Written, ""));
        assert_ne!(corelane.marker, kafka.marker);
        let flushed = Look::of(&target(TargetKind::Corelane, Durability::Flushed, ""));
        assert_eq!(corelane.marker, flushed.marker);
        assert_ne!(corelane.class, flushed.class, "dashes tell durabilities apart");
    }

    #[test]
    fn a_variant_does_not_change_the_look() {
        let sheet = target(TargetKind::Kafka, Durability::Written, "");
        assert_eq!(Look::of(&sheet), Look::of(&TargetSheet { variant: "all cores".to_owned(), ..sheet.clone() }));
    }
}
