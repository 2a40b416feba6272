//! The known word that looks most like an unknown one.

/// Edits (insert, delete, replace, swap neighbours) that lead from one word to the other.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().collect();
    let other: Vec<char> = other.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut least = (row[j] + usize::from(a != b)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[other.len()]
}

/// The nearest known word: at most a third of it differs, or the unknown word begins it, or it is the tail of the
/// unknown one (`ipsec-proposal` for `proposal`) give or take two letters.
pub(crate) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody mistypes a word of a hundred letters; the bound keeps the work small.
    if unknown.is_empty() || unknown.len() > 64 {
        return None;
    }
    let length = unknown.chars().count();
    known
        .filter_map(|word| {
            let of_whole = distance(unknown, word);
            let begins = length >= 3 && word.starts_with(unknown);
            let of_tail = unknown
                .char_indices()
                .filter(|(at, _)| unknown[..*at].ends_with('-'))
                .map(|(at, _)| distance(&unknown[at..], word))
                .min();
            let limit = (word.chars().count().max(length) / 3).max(1);
            match (begins, of_tail) {
                _ if of_whole <= limit => Some((of_whole, word)),
                (true, _) => Some((limit + 1, word)),
                (_, Some(tail)) if tail <= 2 && tail < word.len() => Some((limit + 2 + tail, word)),
                _ => None,
            }
        })
        .min_by_key(|(score, _)| *score)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_nonsense_has_none() {
        let known = || ["proposal", "policy", "gateway", "pre-shared-key"].into_iter();
        assert_eq!(nearest("propsal", known()), Some("proposal"));
        assert_eq!(nearest("ipsec-propsal", known()), Some("proposal"));
        assert_eq!(nearest("gatewya", known()), Some("gateway"));
        assert_eq!(nearest("pre-shared", known()), Some("pre-shared-key"));
        assert_eq!(nearest("xyzzy", known()), None);
        assert_eq!(nearest("", known()), None);
    }
}
