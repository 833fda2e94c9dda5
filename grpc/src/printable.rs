//! Text that comes from a peer or a file, as a terminal, a log or a page may show it.
//!
//! A character that is not [printable](is_printable) is shown as Rust writes it in a string: `\n`,
//! `\u{9b}`. Such characters can clear a screen, forge a line, hide a part of a text or reverse the
//! order in which it reads.

use std::borrow::Cow;
use std::fmt;

/// Whether a character shows as itself and changes nothing else. These do not:
///
/// * control characters: C0 with line breaks and tabs, DEL, C1,
/// * line and paragraph separators,
/// * format characters: controls of the writing direction, joiners, byte order marks, tags,
/// * other characters without a width that renderers ignore: fillers, variation selectors,
/// * white space that is no blank, private use, and what is not assigned.
#[must_use]
pub fn is_printable(letter: char) -> bool {
    if letter.is_ascii() {
        return letter == ' ' || letter.is_ascii_graphic();
    }
    // Behind a letter, std leaves combining marks alone, which many scripts need.
    let mut behind = [b'a'; 5];
    let length = letter.encode_utf8(&mut behind[1..]).len();
    let text = std::str::from_utf8(&behind[..=length]).unwrap_or_default();
    text.escape_debug().nth(2).is_none() && !is_ignored(letter)
}

/// A text of which every character is printable.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    // Writing to a string does not fail.
    let _ = fmt::Write::write_str(&mut Printable(&mut shown), text);
    Cow::Owned(shown)
}

/// Makes what is written through it [`printable`].
#[derive(Debug)]
pub struct Printable<W>(pub W);

impl<W: fmt::Write> fmt::Write for Printable<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, letter)) = rest
            .char_indices()
            .find(|(_, letter)| !is_printable(*letter))
        {
            self.0.write_str(&rest[..at])?;
            match letter {
                '\t' | '\r' | '\n' => write!(self.0, "{}", letter.escape_default())?,
                _ => write!(self.0, "{}", letter.escape_unicode())?,
            }
            rest = &rest[at + letter.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// Assigned letters and marks that renderers ignore by default (`Default_Ignorable_Code_Point` of
/// Unicode); std knows the format characters among them.
fn is_ignored(letter: char) -> bool {
    matches!(
        letter,
        '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The characters that have to be escaped, by their numbers in Unicode.
    const HIDDEN: &[(u32, u32)] = &[
        (0x00, 0x1f),
        (0x7f, 0x9f),
        (0xad, 0xad),
        (0x34f, 0x34f),
        (0x61c, 0x61c),
        (0x115f, 0x1160),
        (0x17b4, 0x17b5),
        (0x180b, 0x180f),
        (0x200b, 0x200f),
        (0x2028, 0x202e),
        (0x2060, 0x206f),
        (0x3164, 0x3164),
        (0xfe00, 0xfe0f),
        (0xfeff, 0xfeff),
        (0xffa0, 0xffa0),
        (0xfff9, 0xfffb),
        (0x1_bca0, 0x1_bca3),
        (0x1_d173, 0x1_d17a),
        (0xe_0000, 0xe_0fff),
    ];

    #[test]
    fn no_character_that_hides_moves_or_controls_comes_out_as_itself() {
        for &(first, last) in HIDDEN {
            for letter in (first..=last).filter_map(char::from_u32) {
                assert!(!is_printable(letter), "{letter:?}");
            }
        }
    }

    #[test]
    fn what_comes_out_of_any_character_is_printable_and_says_which_it_was() {
        for letter in '\0'..=char::MAX {
            let text = format!("<{letter}>");
            let shown = printable(&text);
            assert!(shown.chars().all(is_printable), "{letter:?}");
            let number = format!("{:x}", u32::from(letter));
            match letter {
                '\n' => assert_eq!(shown, r"<\n>"),
                '\r' => assert_eq!(shown, r"<\r>"),
                '\t' => assert_eq!(shown, r"<\t>"),
                _ if is_printable(letter) => assert_eq!(shown, text),
                _ => assert_eq!(shown, format!(r"<\u{{{number}}}>")),
            }
        }
    }

    #[test]
    fn texts_of_all_scripts_stay_as_they_are() {
        for text in [
            r#"a "quoted" 'word' \ backslash"#,
            "Zürich, Zu\u{308}rich",
            "Ελλάδα, Россия, 日本語、한국어",
            "עברית, العربية, हिन्दी, ไทย",
            "✓ … 💶",
        ] {
            assert_eq!(printable(text), text);
        }
    }
}
