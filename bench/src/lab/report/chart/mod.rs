//! Pictures, drawn as SVG in the page itself. They know axes, lines and bars; what these mean is said by their callers.

pub(super) mod axis;
pub(super) mod bars;
pub(super) mod line;
pub(super) mod ratios;

/// Places for labels at `wanted`, at least `gap` apart and within 0 to `end`, each as near to its wish as its neighbours let
/// it. Given in the order of `wanted`.
fn spread_apart(wanted: &[f64], gap: f64, end: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    let mut placed = wanted.to_vec();
    // Down with each that is too near to the one above, then up again from the end.
    let mut least = 0.0;
    for &index in &order {
        placed[index] = placed[index].max(least);
        least = placed[index] + gap;
    }
    let mut most = end;
    for &index in order.iter().rev() {
        placed[index] = placed[index].min(most);
        most = placed[index] - gap;
    }
    placed
}

/// A name of at most so many letters.
fn shortened(name: &str, letters_max: usize) -> String {
    if name.chars().count() <= letters_max {
        return name.to_owned();
    }
    name.chars().take(letters_max.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_where_letters_end() {
        assert_eq!(shortened("corelane flushed", 17), "corelane flushed");
        assert_eq!(shortened("brøker at 127.0.0.1:9092", 17), "brøker at 127.0.…");
    }

    #[test]
    fn labels_keep_their_distance_and_their_order() {
        assert_eq!(spread_apart(&[50.0, 10.0], 14.0, 100.0), [50.0, 10.0]);
        assert_eq!(spread_apart(&[20.0, 21.0, 19.0], 10.0, 100.0), [29.0, 39.0, 19.0]);
        assert_eq!(spread_apart(&[99.0, 100.0], 10.0, 100.0), [90.0, 100.0]);
    }
}
