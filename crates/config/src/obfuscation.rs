//! The vendor's reversible obfuscation of secrets, `$9$...`. It hides a key from a glance, from nobody else.
//!
//! After the magic comes one salt character, then as many arbitrary ones as the salt's family says, then for each octet
//! a few characters. Each octet is a sum over gaps between neighbouring characters, weighted by one of seven rows that
//! take turns. The scheme is public knowledge; it is written down here from its description.

use zeroize::Zeroize;

/// What an obfuscated secret starts with.
pub const MAGIC: &str = "$9$";

/// Characters in four families; a salt of family 0 is followed by three arbitrary characters, of family 3 by none.
const FAMILIES: [&str; 4] = ["QzF3n6/9CAtpu0O", "B1IREhcSyrleKvMW8LXx", "7N-dVbwsY2g4oaJZGUDj", "iHkq.mPf5T"];

/// Weights of the gaps of one octet; octet n uses row n mod 7.
const WEIGHTS: [&[usize]; 7] =
    [&[1, 4, 32], &[1, 16, 32], &[1, 8, 32], &[1, 64], &[1, 32], &[1, 4, 16, 128], &[1, 32, 64]];

/// The alphabet: the families in order.
fn alphabet() -> Vec<u8> {
    FAMILIES.concat().into_bytes()
}

fn position(alphabet: &[u8], character: u8) -> Option<usize> {
    alphabet.iter().position(|candidate| *candidate == character)
}

/// How many arbitrary characters follow a salt.
fn padding(salt: u8) -> Option<usize> {
    FAMILIES.iter().position(|family| family.as_bytes().contains(&salt)).map(|family| 3 - family)
}

/// The secret behind a `$9$` string; `None` if it is not one.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let rest = text.strip_prefix(MAGIC)?.as_bytes();
    let alphabet = alphabet();
    let salt = *rest.first()?;
    let mut rest = rest.get(1 + padding(salt)?..)?;
    let mut previous = position(&alphabet, salt)?;
    let mut clear = Vec::with_capacity(rest.len() / 2);
    while !rest.is_empty() {
        let weights = WEIGHTS[clear.len() % WEIGHTS.len()];
        let (group, after) = rest.split_at_checked(weights.len())?;
        let mut octet = 0usize;
        for (character, weight) in group.iter().zip(weights) {
            let here = position(&alphabet, *character)?;
            let gap = (here + alphabet.len() - previous) % alphabet.len();
            // A gap of nothing stands for a whole turn less one, as the encoder never writes it.
            octet += (gap + alphabet.len() - 1) % alphabet.len() * weight;
            previous = here;
        }
        clear.push((octet % 256) as u8);
        rest = after;
    }
    Some(clear)
}

/// Obfuscates a secret. The salt is chosen by the secret, so that equal secrets look equal from one run to the next and
/// showing a configuration twice gives the same text.
pub fn encode(clear: &[u8]) -> String {
    let alphabet = alphabet();
    let sum =
        clear.iter().fold(clear.len(), |sum, octet| sum.wrapping_mul(31).wrapping_add(usize::from(*octet)));
    let salt = alphabet[sum % alphabet.len()];
    let mut out = Vec::from(MAGIC.as_bytes());
    out.push(salt);
    for index in 0..padding(salt).unwrap_or(0) {
        out.push(alphabet[(sum / 7 + index * 13) % alphabet.len()]);
    }
    let mut previous = position(&alphabet, salt).unwrap_or(0);
    for (index, octet) in clear.iter().enumerate() {
        let weights = WEIGHTS[index % WEIGHTS.len()];
        let mut left = usize::from(*octet);
        let mut gaps = vec![0; weights.len()];
        for (gap, weight) in gaps.iter_mut().zip(weights).rev() {
            *gap = left / weight;
            left %= weight;
        }
        for gap in &gaps {
            previous = (previous + gap + 1) % alphabet.len();
            out.push(alphabet[previous]);
        }
        gaps.zeroize();
        left.zeroize();
    }
    out.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_strings_of_the_seed_decode_to_a_word_with_one_wrong_letter_each() {
        let words: Vec<String> = ["$9$F6aR6CuRhr8X-01X-VwaJ369", "$9$km5FctOcyKn/yKM8dVqmf"]
            .iter()
            .map(|text| String::from_utf8_lossy(&decode(text).unwrap()).into_owned())
            .collect();
        eprintln!("{words:?}");
        assert!(words.iter().all(|word| word.chars().count() == 7), "{words:?}");
        let wrong: Vec<usize> = words[0]
            .chars()
            .zip(words[1].chars())
            .enumerate()
            .filter(|(_, (one, other))| one != other)
            .map(|(index, _)| index)
            .collect();
        assert_eq!(wrong.len(), 2, "each has its own wrong letter: {words:?}");
    }

    #[test]
    fn what_is_no_obfuscated_secret_does_not_decode() {
        for text in ["", "$9$", "$9$é", "$1$abc", "$9$Q", "$9$Q12", "$9$i!", "$9$iHH", "hello"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(clear in proptest::collection::vec(any::<u8>(), 1..64)) {
            prop_assert_eq!(decode(&encode(&clear)), Some(clear));
        }

        #[test]
        fn decoding_never_panics(text in "\\PC*") {
            let _ = decode(&text);
            let _ = decode(&format!("$9${text}"));
        }
    }
}
