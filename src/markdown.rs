//! Markdown as text for a terminal. Pure.
//!
//! The pages of `gatewright help` are written in headings, paragraphs, lists of one level, fenced code, tables, `code`,
//! **bold** and links. Backticks stay, as in all messages; `| ` marks what an example writes (a fence of `text`).

/// How wide lines are.
pub const WIDTH: usize = 100;

const BOLD: anstyle::Style = anstyle::Style::new().bold();

enum Block<'a> {
    Heading(&'a str),
    Text(String),
    /// The mark and the words of each item.
    List(Vec<(&'a str, String)>),
    /// What stands before each line, and the lines.
    Code(&'static str, Vec<&'a str>),
    Table(Vec<Vec<String>>),
}

/// Lines of at most [`WIDTH`] columns, but code as it is. Headings and bold words are in escape sequences, which
/// `anstream` drops where no terminal reads.
pub fn terminal(markdown: &str) -> String {
    let mut out = String::new();
    let mut after_heading = true;
    for block in blocks(markdown) {
        if !after_heading || (matches!(block, Block::Heading(_)) && !out.is_empty()) {
            out.push('\n');
        }
        after_heading = matches!(block, Block::Heading(_));
        match block {
            Block::Heading(title) => {
                let title = without_links(title).replace('`', "");
                out.push_str(&format!("{BOLD}{title}{BOLD:#}\n"));
            }
            Block::Text(words) => put(&mut out, "  ", "  ", &words),
            Block::List(items) => {
                for (mark, words) in items {
                    let blanks = " ".repeat(mark.len() + 3);
                    put(&mut out, &format!("  {mark} "), &blanks, &words);
                }
            }
            Block::Code(before, lines) => {
                for line in lines {
                    out.push_str(format!("    {before}{line}").trim_end());
                    out.push('\n');
                }
            }
            Block::Table(rows) => table(&mut out, &rows),
        }
    }
    out
}

fn blocks(markdown: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        let block = if let Some(language) = line.strip_prefix("```") {
            let before = if language == "text" { "| " } else { "" };
            let code = lines.by_ref().take_while(|line| !line.starts_with("```"));
            Block::Code(before, code.collect())
        } else if line.starts_with('#') {
            Block::Heading(line.trim_start_matches('#').trim())
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            // The line below the heads is only a rule.
            lines.next();
            while let Some(line) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(line));
            }
            Block::Table(rows)
        } else if let Some(first) = item(line) {
            let mut items = vec![(first.0, first.1.to_owned())];
            while let Some(line) = lines.next_if(|line| item(line).is_some() || goes_on(line)) {
                match (item(line), items.last_mut()) {
                    (Some((mark, words)), _) => items.push((mark, words.to_owned())),
                    (None, Some((_, words))) => *words += &format!(" {}", line.trim()),
                    (None, None) => {}
                }
            }
            Block::List(items)
        } else {
            let mut words = line.to_owned();
            while let Some(line) = lines.next_if(|line| goes_on(line)) {
                words += &format!(" {}", line.trim());
            }
            Block::Text(words)
        };
        blocks.push(block);
    }
    blocks
}

/// The mark and the words of an item of a list.
fn item(line: &str) -> Option<(&str, &str)> {
    let (mark, words) = line.split_once(' ')?;
    let number = mark.strip_suffix('.').unwrap_or_default();
    let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (mark == "*" || mark == "-" || numbered).then(|| (mark, words.trim()))
}

/// Whether a line goes on with the paragraph or the item before it.
fn goes_on(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with(['#', '|', '`']) && item(line).is_none()
        || line.starts_with('`') && !line.starts_with("```")
}

fn cells(line: &str) -> Vec<String> {
    let line = line.replace("\\|", "\u{0}");
    let inner = line.trim().trim_start_matches('|');
    let inner = inner.strip_suffix('|').unwrap_or(inner);
    let cell = |cell: &str| cell.trim().replace('\u{0}', "|");
    inner.split('|').map(cell).collect()
}

/// Columns where they fit, the last one in several lines; else a list with an item a row.
fn table(out: &mut String, rows: &[Vec<String>]) {
    let Some((heads, body)) = rows.split_first() else {
        return;
    };
    let last = heads.len().saturating_sub(1);
    let widths: Vec<usize> = (0..last).map(|column| widest(rows, column)).collect();
    let before = 2 + widths.iter().map(|width| width + 2).sum::<usize>();
    let room = WIDTH.saturating_sub(before);
    if room < 40 && widest(rows, last) > room {
        return items(out, heads, body);
    }
    let bold: Vec<String> = heads.iter().map(|head| in_bold(head)).collect();
    for row in std::iter::once(&bold).chain(body) {
        let mut line = String::from("  ");
        for (width, cell) in widths.iter().zip(row) {
            let cell = wrapped(cell, usize::MAX).pop().unwrap_or_default();
            line += &cell.text;
            line += &" ".repeat(width + 2 - cell.width.min(*width));
        }
        let cell = row.get(last).map(String::as_str).unwrap_or_default();
        put(out, &line, &" ".repeat(before), cell);
    }
}

fn in_bold(head: &str) -> String {
    match head {
        "" => String::new(),
        head => format!("**{head}**"),
    }
}

fn widest(rows: &[Vec<String>], column: usize) -> usize {
    let width = |row: &Vec<String>| wrapped(row.get(column)?, usize::MAX).pop();
    let widths = rows.iter().filter_map(width).map(|line| line.width);
    widths.max().unwrap_or_default()
}

/// A row as an item, with each further cell behind its head.
fn items(out: &mut String, heads: &[String], rows: &[Vec<String>]) {
    for row in rows {
        let mut cells = heads.iter().zip(row);
        if let Some((_, first)) = cells.next() {
            put(out, "  * ", "    ", first);
        }
        for (head, cell) in cells.filter(|(_, cell)| !cell.is_empty()) {
            put(out, "      ", "        ", &format!("{head}: {cell}"));
        }
    }
}

/// Words in lines, the first behind one beginning, the others behind another of the same width.
fn put(out: &mut String, first: &str, other: &str, words: &str) {
    let room = WIDTH.saturating_sub(other.chars().count());
    let mut before = first;
    for line in wrapped(words, room) {
        out.push_str(format!("{before}{}", line.text).trim_end());
        out.push('\n');
        before = other;
    }
}

#[derive(Default)]
struct Line {
    text: String,
    /// Columns on the terminal.
    width: usize,
}

/// At least one line.
fn wrapped(words: &str, room: usize) -> Vec<Line> {
    let mut lines = vec![Line::default()];
    for (word, bold) in unbroken(&without_links(words), room / 2) {
        let width = word.chars().count();
        let begun = lines.last().is_some_and(|line| line.width > 0);
        if begun
            && lines
                .last()
                .is_some_and(|line| line.width + 1 + width > room)
        {
            lines.push(Line::default());
        }
        if let Some(line) = lines.last_mut() {
            if line.width > 0 {
                line.text.push(' ');
                line.width += 1;
            }
            line.text += &match bold {
                true => format!("{BOLD}{word}{BOLD:#}"),
                false => word,
            };
            line.width += width;
        }
    }
    lines
}

/// The words, and whether each is bold. Code in backticks is one word, unless it is longer than `most`.
fn unbroken(words: &str, most: usize) -> Vec<(String, bool)> {
    let mut all = vec![(String::new(), false)];
    let (mut code, mut bold) = (false, false);
    let mut letters = words.chars().peekable();
    while let Some(letter) = letters.next() {
        let Some((word, is_bold)) = all.last_mut() else {
            break;
        };
        if letter == '*' && !code && letters.next_if_eq(&'*').is_some() {
            bold = !bold;
        } else if letter == ' ' && (!code || word.chars().count() >= most) {
            all.push((String::new(), false));
        } else {
            code ^= letter == '`';
            *is_bold |= bold;
            word.push(letter);
        }
    }
    all.retain(|(word, _)| !word.is_empty());
    all
}

/// The words of links; the address, too, where it is one of the web.
fn without_links(words: &str) -> String {
    let mut out = String::new();
    let mut rest = words;
    while let Some((before, after)) = rest.split_once("](") {
        let (Some((ahead, text)), Some((target, behind))) =
            (before.rsplit_once('['), after.split_once(')'))
        else {
            break;
        };
        out += ahead;
        out += text;
        if target.starts_with("http") {
            out += &format!(" ({target})");
        }
        rest = behind;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(markdown: &str) -> String {
        anstream::adapter::strip_str(&terminal(markdown)).to_string()
    }

    #[test]
    fn each_kind_of_block_is_written_without_marks_of_markdown() {
        let page = "# A `page`\n\nWords that\ngo on, with [a link](guard.md), [one](https://a.b) and **bold `x y`**.\n\n\
            * a point\n  that goes on\n* `code` first\n`more`\n\n1. one\n2. two\n\n## Next\n```toml\n[a]\n  b = 1\n```\n\
            ```text\nwritten\n```\n";
        assert_eq!(
            plain(page),
            "A page\n  Words that go on, with a link, one (https://a.b) and bold `x y`.\n\n  * a point that goes on\n  \
             * `code` first `more`\n\n  1. one\n  2. two\n\nNext\n    [a]\n      b = 1\n\n    | written\n"
        );
    }

    #[test]
    fn bold_is_for_terminals_and_counts_no_columns() {
        let long = "**a** ".repeat(49);
        let text = terminal(&long);
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("  \u{1b}[1ma\u{1b}[0m "), "{text:?}");
    }

    #[test]
    fn lines_break_at_the_width_and_not_within_code() {
        let text = plain(&format!("{} `some code here` x", "word ".repeat(18)));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "  `some code here` x");
        let narrow = plain(&format!("`{}`", "word ".repeat(60)));
        assert!(narrow.lines().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn a_table_is_columns_where_it_fits_else_a_list() {
        assert_eq!(
            plain("| a | b |\n|---|---|\n| `x\\|y` | two |\n| long one | |\n"),
            "  a         b\n  `x|y`     two\n  long one\n"
        );
        let wide = "w ".repeat(40);
        let text = plain(&format!(
            "| a | b | c |\n|---|---|---|\n| {wide} | {wide} | z |\n| k | | z |\n"
        ));
        let wide = wide.trim();
        assert_eq!(
            text,
            format!("  * {wide}\n      b: {wide}\n      c: z\n  * k\n      c: z\n")
        );
        let text = plain(&format!("| a | b |\n|---|---|\n| key | {wide} {wide} |\n"));
        assert!(
            text.lines()
                .nth(2)
                .is_some_and(|line| line.starts_with("       w")),
            "{text}"
        );
    }

    #[test]
    fn no_text_makes_it_panic() {
        for text in [
            "|", "||\n|", "```", "[](", "](", "#", "* ", "1. ", "**", "`", "[a](b",
        ] {
            plain(text);
        }
    }
}
