//! The nearest name to one that nobody knows, for hints: "did you mean …?"

/// Edits above which a name is no likely misspelling: two for short names, a third of the longer ones.
fn edits_max(name: &str) -> usize {
    (name.len() / 3).max(2)
}

/// Returns the candidate that takes the fewest edits to reach, if any is close enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name_lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (edits(&name_lower, &candidate.to_lowercase()), candidate))
        .filter(|(edits, _)| *edits <= edits_max(name))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Counts insertions, deletions and substitutions between two names (Levenshtein's distance, one row at a time).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_single_changes() {
        assert_eq!(edits("", ""), 0);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("abc", ""), 3);
    }

    #[test]
    fn misspellings_find_their_name_and_others_find_nothing() {
        let names = ["listen", "join", "network"];
        assert_eq!(nearest("lisen", names), Some("listen"));
        assert_eq!(nearest("Network", names), Some("network"));
        assert_eq!(nearest("completely-else", names), None);
    }
}
