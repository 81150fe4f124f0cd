//! The lines of a crt-list (HAProxy 2.6 configuration manual 5.1 "crt-list"). Pure; a line that is not
//! understood for certain is an error.

/// One line that names a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The certificate's file, as written.
    pub file: String,
    /// What stands between brackets, with single blanks.
    pub options: Option<String>,
    /// The names it is for; none means those of the certificate.
    pub filters: Vec<String>,
}

impl Line {
    /// The line again, with another spelling of the file.
    pub fn with_file(&self, file: &str) -> String {
        let mut text = file.to_owned();
        if let Some(options) = &self.options {
            text.push_str(&format!(" [{options}]"));
        }
        for filter in &self.filters {
            text.push(' ');
            text.push_str(filter);
        }
        text
    }
}

/// The lines of a list that are neither blank nor comments.
pub fn lines(text: &str) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let line = line(text).ok_or_else(|| format!("line {} is not certain", index + 1))?;
        lines.push(line);
    }
    Ok(lines)
}

fn line(text: &str) -> Option<Line> {
    let special = |c: char| matches!(c, '"' | '\'' | '\\' | '#') || c.is_control() && c != '\t';
    if text.contains(special) {
        return None;
    }
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let (names, options, filters) = match text.split_once('[') {
        Some((names, rest)) => {
            let (options, filters) = rest.split_once(']')?;
            (words(names), Some(words(options).join(" ")), words(filters))
        }
        None => {
            let mut names = words(text);
            let filters = names.split_off(1.min(names.len()));
            (names, None, filters)
        }
    };
    let [file] = &names[..] else { return None };
    let brackets = |text: &String| text.contains(['[', ']']);
    let strange = options.iter().chain(&filters).any(brackets);
    (!strange && !file.contains(']')).then(|| Line {
        file: file.clone(),
        options,
        filters,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_and_put_together() {
        let text = "# c\n\n a.pem\nb.pem\t[alpn  h2,http/1.1]  b.example  !c.example\nc.pem x\n";
        let lines = lines(text).unwrap();
        let again: Vec<String> = lines
            .iter()
            .map(|line| line.with_file(&line.file))
            .collect();
        assert_eq!(
            again,
            [
                "a.pem",
                "b.pem [alpn h2,http/1.1] b.example !c.example",
                "c.pem x"
            ]
        );
    }

    #[test]
    fn what_is_not_certain_is_an_error() {
        for text in [
            "a b [x]",
            "[x]",
            "a [x",
            "a [x] [y]",
            "a \"b\"",
            "a\\ b",
            "a # b",
            "a]",
        ] {
            assert_eq!(
                lines(text),
                Err("line 1 is not certain".to_owned()),
                "{text}"
            );
        }
    }
}
