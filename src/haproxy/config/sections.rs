//! A whole configuration cut into sections and directives, by the rules of HAProxy 2.6
//! (configuration manual 2.1, 2.4 and 3 to 4). Reading never fails: lines that HAProxy's tokenizer
//! refuses are listed beside what was read.

use std::path::{Path, PathBuf};

use super::lexer::{LexError, Word, lex};

/// The words that start a section in HAProxy 2.6 to 3.2.
const SECTION_KEYWORDS: [&str; 19] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "resolvers",
    "mailers",
    "userlist",
    "cache",
    "http-errors",
    "ring",
    "program",
    "log-forward",
    "log-profile",
    "fcgi-app",
    "crt-store",
    "traces",
    "acme",
];

/// Whether a word at the start of a line starts a section.
pub fn is_section_keyword(word: &str) -> bool {
    SECTION_KEYWORDS.contains(&word)
}

/// The configuration that HAProxy reads from one or several files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The files, in the order in which HAProxy reads them.
    pub files: Vec<PathBuf>,
    /// All sections in order. A second `global` is a section of its own.
    pub sections: Vec<Section>,
    /// Lines before the first section of a file.
    pub outside: Vec<Directive>,
    /// Lines that HAProxy's tokenizer refuses.
    pub errors: Vec<LineError>,
    last_defaults: Option<usize>,
}

/// One section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The word that starts it: `global`, `frontend`, `backend`…
    pub kind: String,
    /// Its name; empty for `global` and an unnamed `defaults`.
    pub name: String,
    /// The named `defaults` section it starts from.
    pub from: Option<String>,
    /// Index of the `defaults` section that applies to it, into [`Config::sections`].
    pub defaults: Option<usize>,
    /// Index into [`Config::files`].
    pub file: usize,
    /// Line of its first line, from 1.
    pub line: usize,
    /// Whether only HAProxy knows if it is there under this name: it starts in an `.if` block or
    /// its name holds a variable.
    pub conditional: bool,
    /// The lines of the section that are neither blank nor comments.
    pub directives: Vec<Directive>,
}

/// One line of a section. Conditional macros (`.if`…) are directives too, with their dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Line in its file, from 1.
    pub line: usize,
    /// The words; never empty, and the first one is not the empty word.
    pub words: Vec<Word>,
    /// Whether only HAProxy knows if this line counts: it stands in an `.if` block, or its keyword is a
    /// variable.
    pub conditional: bool,
}

/// A line that HAProxy refuses before it looks at the keywords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Index into [`Config::files`].
    pub file: usize,
    /// Line in its file, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub error: LexError,
}

impl Config {
    /// Reads one text.
    pub fn parse(text: &str) -> Config {
        let mut config = Config::default();
        config.add(Path::new(""), text);
        config
    }

    /// Reads several files in the order in which HAProxy loads them.
    pub fn parse_files<'a>(files: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Config {
        let mut config = Config::default();
        for (path, text) in files {
            config.add(path, text);
        }
        config
    }

    fn add(&mut self, path: &Path, text: &str) {
        let file = self.files.len();
        self.files.push(path.to_owned());
        let mut reader = Reader {
            config: self,
            file,
            in_section: false,
            depth: 0,
        };
        for (index, line) in text.split('\n').enumerate() {
            reader.line(index + 1, line);
        }
    }

    /// The path of a file by its index.
    pub fn path(&self, file: usize) -> &Path {
        self.files.get(file).map_or(Path::new(""), PathBuf::as_path)
    }

    /// The sections of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Section> {
        self.sections.iter().filter(move |s| s.kind == kind)
    }

    /// The sections that have servers.
    pub fn backend_sections(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(|section| section.is_backend())
    }

    /// Whether some part can only be known by HAProxy: an `.if` block, a section whose name is a variable.
    pub fn is_conditional(&self) -> bool {
        let mut directives = self.sections.iter().flat_map(|s| &s.directives);
        self.sections.iter().any(|section| section.conditional)
            || directives.any(|directive| directive.conditional)
            || self.outside.iter().any(|directive| directive.conditional)
    }

    /// The value of a setting of `global` that is given once (`nbthread`, `hard-stop-after`…): the
    /// last one wins.
    pub fn global_value(&self, keyword: &str) -> Option<&str> {
        self.of_kind("global")
            .flat_map(|section| &section.directives)
            .filter(|directive| directive.keyword() == keyword)
            .filter_map(|directive| directive.word(1))
            .last()
    }

    /// The number of threads, when it is given and certain.
    pub fn nbthread(&self) -> Option<usize> {
        self.global_value("nbthread")?.parse().ok()
    }

    /// How long an old worker may live, as written.
    pub fn hard_stop_after(&self) -> Option<&str> {
        self.global_value("hard-stop-after")
    }

    /// The text that `set-var NAME str(TEXT)` gives a process-wide variable in `global`. The
    /// revision of a set is read by this.
    pub fn process_variable(&self, name: &str) -> Option<&str> {
        self.of_kind("global")
            .flat_map(|section| section.all("set-var"))
            .filter(|directive| directive.word(1) == Some(name))
            .filter_map(|directive| directive.word(2)?.strip_prefix("str(")?.strip_suffix(')'))
            .last()
    }

    /// The `defaults` sections that apply to a section, nearest first: the named one, or the last
    /// one before it, and those that one starts from.
    pub fn defaults_of<'a>(&'a self, section: &'a Section) -> Vec<&'a Section> {
        let next = |section: &Section| self.sections.get(section.defaults?);
        // Each index is smaller than the one before, so this ends.
        std::iter::successors(next(section), |section| next(section)).collect()
    }

    /// Whether `disabled` is in force for a frontend, backend or listen section.
    pub fn is_disabled(&self, section: &Section) -> bool {
        std::iter::once(section)
            .chain(self.defaults_of(section))
            .find_map(Section::own_disabled)
            .unwrap_or(false)
    }
}

impl Section {
    /// Its directives with a keyword.
    pub fn all<'a>(&'a self, keyword: &'a str) -> impl Iterator<Item = &'a Directive> {
        self.directives
            .iter()
            .filter(move |directive| directive.keyword() == keyword)
    }

    /// Whether it takes connections: `frontend` or `listen`.
    pub fn is_frontend(&self) -> bool {
        matches!(self.kind.as_str(), "frontend" | "listen")
    }

    /// Whether it has servers: `backend` or `listen`.
    pub fn is_backend(&self) -> bool {
        matches!(self.kind.as_str(), "backend" | "listen")
    }

    fn own_disabled(&self) -> Option<bool> {
        self.directives
            .iter()
            .filter(|directive| !directive.conditional)
            .filter_map(|directive| match directive.keyword() {
                "disabled" => Some(true),
                "enabled" => Some(false),
                _ => None,
            })
            .next_back()
    }
}

impl Directive {
    /// The first word.
    pub fn keyword(&self) -> &str {
        self.word(0).unwrap_or_default()
    }

    /// The text of a word, from 0.
    pub fn word(&self, index: usize) -> Option<&str> {
        self.words.get(index).map(|word| word.text.as_str())
    }

    /// The words after the first `skip`, as text.
    pub fn rest(&self, skip: usize) -> Vec<String> {
        let words = self.words.iter().skip(skip);
        words.map(|word| word.text.clone()).collect()
    }
}

struct Reader<'a> {
    config: &'a mut Config,
    file: usize,
    in_section: bool,
    depth: usize,
}

impl Reader<'_> {
    fn line(&mut self, number: usize, line: &str) {
        let words = match lex(line.as_bytes()) {
            Ok(words) => words,
            Err(error) => {
                let before = line.bytes().take(error.at);
                let column = 1 + before.filter(|byte| byte & 0xc0 != 0x80).count();
                return self.config.errors.push(LineError {
                    file: self.file,
                    line: number,
                    column,
                    error,
                });
            }
        };
        // HAProxy takes a line whose first word is empty for a blank one.
        let Some(first) = words.first().filter(|word| !word.text.is_empty()) else {
            return;
        };
        let keyword = first.text.clone();
        if keyword == ".if" {
            self.depth += 1;
        }
        let conditional = self.depth > 0 || first.opaque || keyword.starts_with(['.', '[']);
        if keyword == ".endif" {
            self.depth = self.depth.saturating_sub(1);
        }
        if !first.opaque && is_section_keyword(&keyword) {
            self.section(number, &words, conditional);
        } else {
            self.directive(number, words, conditional);
        }
    }

    fn section(&mut self, line: usize, words: &[Word], conditional: bool) {
        let kind = words.first().map(|word| word.text.clone());
        let text = |index: usize| words.get(index).map(|word| word.text.as_str());
        let unnamed = text(1) == Some("from") && text(0) == Some("defaults") && words.len() > 2;
        let (name, from) = if unnamed {
            (None, text(2))
        } else {
            let from = text(3).filter(|_| text(2) == Some("from"));
            (text(1), from)
        };
        let defaults = self.defaults_for(kind.as_deref(), from);
        self.in_section = true;
        if kind.as_deref() == Some("defaults") {
            self.config.last_defaults = Some(self.config.sections.len());
        }
        self.config.sections.push(Section {
            kind: kind.unwrap_or_default(),
            name: name.unwrap_or_default().to_owned(),
            from: from.map(str::to_owned),
            defaults,
            file: self.file,
            line,
            conditional: conditional || words.iter().any(|word| word.opaque),
            directives: Vec::new(),
        });
    }

    fn defaults_for(&mut self, kind: Option<&str>, from: Option<&str>) -> Option<usize> {
        let sections = &self.config.sections;
        match (kind, from) {
            (_, Some(name)) => sections
                .iter()
                .rposition(|section| section.kind == "defaults" && section.name == name),
            // A `defaults` without `from` starts from nothing.
            (Some("frontend" | "backend" | "listen"), None) => self.config.last_defaults,
            _ => None,
        }
    }

    fn directive(&mut self, line: usize, mut words: Vec<Word>, conditional: bool) {
        // A configuration may have ten thousand lines. Cut to its length, a list may keep the room of twice its words.
        let mut exact = Vec::with_capacity(words.len());
        exact.append(&mut words);
        let section = self.config.sections.last_mut().filter(|_| self.in_section);
        let mut directive = Directive {
            line,
            words: exact,
            conditional,
        };
        match section {
            Some(section) => {
                // After an `.if` block that started a section, the lines belong to either.
                directive.conditional |= section.conditional;
                section.directives.push(directive);
            }
            None => self.config.outside.push(directive),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sections_have_kind_name_and_what_they_start_from() {
        let config = Config::parse(
            "global\n nbthread 2\n hard-stop-after 30s\ndefaults d\n disabled\ndefaults from d\n mode tcp\n\
             frontend f from d # x\n bind :80\n enabled\nbackend b\nglobal\n nbthread 4\n set-var proc.r str(abc)\n",
        );
        let seen: Vec<_> = config
            .sections
            .iter()
            .map(|s| (s.kind.as_str(), s.name.as_str(), s.from.as_deref(), s.line))
            .collect();
        assert_eq!(
            seen,
            [
                ("global", "", None, 1),
                ("defaults", "d", None, 4),
                ("defaults", "", Some("d"), 6),
                ("frontend", "f", Some("d"), 8),
                ("backend", "b", None, 11),
                ("global", "", None, 12),
            ]
        );
        assert_eq!(config.nbthread(), Some(4));
        assert_eq!(config.hard_stop_after(), Some("30s"));
        assert_eq!(config.process_variable("proc.r"), Some("abc"));
        assert!(
            !config.is_disabled(&config.sections[3]),
            "its own `enabled`"
        );
        assert!(config.is_disabled(&config.sections[4]), "from its defaults");
        assert!(!config.is_conditional());
    }

    #[test]
    fn conditional_blocks_are_marked_and_errors_are_listed() {
        let config = Config::parse(
            "frontend f\n bind :80\n .if defined(X)\n bind :81\n .else\nbackend \"$B\"\n .endif\n server s h:1\n bind \"x\n",
        );
        let marks: Vec<bool> = config.sections[0]
            .directives
            .iter()
            .map(|d| d.conditional)
            .collect();
        assert_eq!(marks, [false, true, true, true]);
        assert!(config.sections[1].conditional);
        assert!(config.sections[1].directives.iter().all(|d| d.conditional));
        let error = &config.errors[0];
        assert_eq!((error.line, error.column), (9, 7));
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "(frontend|backend|server|bind|\\.if|\\.endif|map\\(|%\\[|\n| |\\PC){0,60}") {
            let config = Config::parse(&text);
            config.binds();
            config.backends();
            config.backend_uses();
            config.maps();
            config.file_uses();
            config.stats_sockets();
        }
    }
}
