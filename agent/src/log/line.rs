//! A line of the log, safe to show and bounded.

use std::borrow::Cow;

use serde_json::Value as Json;

/// The most bytes of a line, without its end.
pub const LINE_BYTES: usize = 16 * 1024;

/// A line of text, cut if it is too long.
pub(super) fn of_text(text: &str, coloured: bool) -> Cow<'_, str> {
    if text.len() <= LINE_BYTES {
        return Cow::Borrowed(text);
    }
    let end = if coloured { "…\u{1b}[0m" } else { "…" };
    let kept = &text[..text.floor_char_boundary(LINE_BYTES - end.len())];
    Cow::Owned(format!("{kept}{end}"))
}

/// A line that is a JSON object, with its longest texts cut if it is too long.
pub(super) fn of_json(text: &str) -> Cow<'_, str> {
    let line = crate::json::printable(text);
    if line.len() <= LINE_BYTES {
        return line;
    }
    let Ok(mut object) = serde_json::from_str::<Json>(text) else {
        // What the formatter writes is JSON.
        return Cow::Borrowed("{}");
    };
    // Half of it for what is not text; an escape takes up to twelve bytes for each character.
    let mut most = LINE_BYTES / 2;
    loop {
        cut_texts(&mut object, most);
        let line = crate::json::printable(&object.to_string()).into_owned();
        if line.len() <= LINE_BYTES || most == 0 {
            return Cow::Owned(line);
        }
        most /= 2;
    }
}

fn cut_texts(value: &mut Json, most: usize) {
    match value {
        Json::String(text) if text.len() > most => {
            text.truncate(text.floor_char_boundary(most));
            text.push('…');
        }
        Json::Array(values) => values.iter_mut().for_each(|value| cut_texts(value, most)),
        Json::Object(object) => object.values_mut().for_each(|value| cut_texts(value, most)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use configstream_grpc::is_printable;

    use super::*;

    #[test]
    fn a_line_of_text_is_cut_between_characters_and_ends_in_no_colour() {
        let fits = "é".repeat(LINE_BYTES / 2);
        assert_eq!(of_text(&fits, true), fits);
        for coloured in [false, true] {
            let long = format!("x{fits}");
            let line = of_text(&long, coloured);
            assert!(line.len() <= LINE_BYTES && line.len() > LINE_BYTES - 16);
            let end = line.trim_start_matches(['x', 'é']);
            assert_eq!(end, if coloured { "…\u{1b}[0m" } else { "…" });
        }
    }

    #[test]
    fn a_line_of_json_that_is_too_long_is_still_json_and_keeps_its_short_texts() {
        for (letter, times) in [
            ('x', 20_000),
            ('"', 100_000),
            ('\u{7f}', 9_000),
            ('\u{e0001}', 50_000),
        ] {
            let long: String = std::iter::repeat_n(letter, times).collect();
            let object =
                serde_json::json!({"level": "INFO", "fields": {"message": long, "count": 7}});
            let line = of_json(&object.to_string()).into_owned();
            assert!(line.len() <= LINE_BYTES, "{letter:?}: {}", line.len());
            assert!(line.chars().all(is_printable), "{letter:?}");
            let read: Json = serde_json::from_str(&line).unwrap();
            assert_eq!(read["level"], "INFO");
            assert_eq!(read["fields"]["count"], 7);
            let message = read["fields"]["message"].as_str().unwrap();
            let kept = message.strip_suffix('…').unwrap();
            assert!(kept.len() > 500 && long.starts_with(kept), "{letter:?}");
        }
    }
}
