//! HTML entities of authors and titles: `Daniel X. O&#x27;Neil` becomes `Daniel X. O'Neil`. Pure.

/// Longest entity that is looked at, from `&` to `;`.
const ENTITY_MAX: usize = 10;

/// Decodes once; what is no entity stays as it is. Control characters become spaces.
pub(crate) fn decoded(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(ENTITY_MAX).position(|b| b == b';');
        match end.and_then(|end| Some((entity(&rest[1..end])?, end))) {
            Some((c, end)) => {
                plain.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                plain.push('&');
                rest = &rest[1..];
            }
        }
    }
    plain.push_str(rest);
    plain.replace(char::is_control, " ").trim().to_owned()
}

fn entity(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(decoded(text), want);
    }

    #[test]
    fn entities_of_the_published_files_are_decoded_once() {
        check("Paris on Ponce &amp; Le Maison Rouge", "Paris on Ponce & Le Maison Rouge");
        check("&quot;O&#x27;Neil&#39;s&quot; &lt;3 &gt;", "\"O'Neil's\" <3 >");
        check("&amp;lt;", "&lt;");
    }

    #[test]
    fn what_is_no_entity_stays() {
        check("B&W & C; &unknown; &#xZZ; &#x110000; &", "B&W & C; &unknown; &#xZZ; &#x110000; &");
        check("ä&ößöäüß;", "ä&ößöäüß;");
    }

    #[test]
    fn what_would_break_a_line_becomes_a_space() {
        check("a\nb&#10;c\0 ", "a b c");
    }
}
