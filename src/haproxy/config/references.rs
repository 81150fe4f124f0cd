//! What a configuration refers to: backends by name or by a computed name, map files, ACL files and
//! lists of certificates (HAProxy 2.6 configuration manual: "use_backend", "default_backend", 7.3.1
//! converters, 7.1 ACLs). It reads no file.

use super::sections::{Config, Directive};

/// A directive that chooses a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendUse {
    /// The frontend or listen section (or defaults) it stands in.
    pub section: String,
    /// Index into [`Config::files`].
    pub file: usize,
    /// Line in its file, from 1.
    pub line: usize,
    /// `use_backend` or `default_backend`.
    pub keyword: String,
    /// What it chooses.
    pub target: Target,
    /// Whether only HAProxy knows if this line counts.
    pub conditional: bool,
}

/// The backend that is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One name.
    Name(String),
    /// `before` + a value of the map + `after`.
    Map {
        /// Text before the value.
        before: String,
        /// The map whose value is in the name.
        map: MapUse,
        /// Text after the value.
        after: String,
        /// The variable through which the value came, if any: other rules may set it too.
        variable: Option<String>,
    },
    /// Computed in a way that is not followed here. As written.
    Computed(String),
}

/// A map file in an expression: `map(…)` and its kin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapUse {
    /// `map`, `map_beg`, `map_str_int`…
    pub converter: String,
    /// The path as written, without a `file@` or `opt@` before it.
    pub path: String,
    /// The value when no key matches.
    pub default: Option<String>,
    /// Index into [`Config::files`].
    pub file: usize,
    /// Line in its file, from 1.
    pub line: usize,
    /// Whether it is the last converter of its expression, so that its value is the result.
    pub last: bool,
}

/// What a file that is named in the configuration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A map.
    Map,
    /// Patterns of an ACL (`-f`).
    Acl,
    /// A list of certificates.
    CrtList,
    /// A certificate or a directory of them, as written.
    Certificate,
    /// An error page.
    ErrorFile,
}

/// A file that is named in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileUse {
    /// What it is.
    pub kind: FileKind,
    /// The path as written.
    pub path: String,
    /// Index into [`Config::files`].
    pub file: usize,
    /// Line in its file, from 1.
    pub line: usize,
}

impl Config {
    /// Every `use_backend` and `default_backend`. One that goes through a variable that several maps
    /// set is there once a map.
    pub fn backend_uses(&self) -> Vec<BackendUse> {
        let mut uses = Vec::new();
        for section in &self.sections {
            for directive in &section.directives {
                let keyword = directive.keyword();
                if !matches!(keyword, "use_backend" | "default_backend") {
                    continue;
                }
                for target in self.targets(section.file, directive) {
                    uses.push(BackendUse {
                        section: section.name.clone(),
                        file: section.file,
                        line: directive.line,
                        keyword: keyword.to_owned(),
                        target,
                        conditional: directive.conditional,
                    });
                }
            }
        }
        uses
    }

    fn targets(&self, file: usize, directive: &Directive) -> Vec<Target> {
        let Some(word) = directive.words.get(1) else {
            return Vec::new();
        };
        let computed = || vec![Target::Computed(word.text.clone())];
        if word.opaque {
            return computed();
        }
        if directive.keyword() == "default_backend" || !word.text.contains('%') {
            return vec![Target::Name(word.text.clone())];
        }
        let Some((before, expression, after)) = single_expression(&word.text) else {
            return computed();
        };
        let target = |map: MapUse, variable: Option<&str>| Target::Map {
            before: before.to_owned(),
            map,
            after: after.to_owned(),
            variable: variable.map(str::to_owned),
        };
        if let Some(map) = last_map(expression, file, directive.line) {
            return vec![target(map, None)];
        }
        let variable = expression
            .strip_prefix("var(")
            .and_then(|rest| rest.strip_suffix(')'))
            .filter(|name| !name.contains(['(', ')', ',']));
        let Some(variable) = variable else {
            return computed();
        };
        let maps = self.maps_into(variable);
        if maps.is_empty() {
            return computed();
        }
        maps.into_iter()
            .map(|map| target(map, Some(variable)))
            .collect()
    }

    /// The maps whose value goes into a variable by `set-var(NAME)`.
    fn maps_into(&self, variable: &str) -> Vec<MapUse> {
        let setter = format!("set-var({variable})");
        let mut maps = Vec::new();
        for section in &self.sections {
            for directive in &section.directives {
                let at = directive.words.iter().position(|word| word.text == setter);
                let expression = at.and_then(|at| directive.word(at + 1));
                maps.extend(expression.and_then(|e| last_map(e, section.file, directive.line)));
            }
        }
        maps
    }

    /// Every use of a map file.
    pub fn maps(&self) -> Vec<MapUse> {
        let mut maps = Vec::new();
        for section in &self.sections {
            for directive in &section.directives {
                for word in directive.words.iter().filter(|word| !word.opaque) {
                    maps.extend(maps_in(&word.text, section.file, directive.line));
                }
            }
        }
        maps
    }

    /// Every file that is named: maps, ACL patterns, lists of certificates, certificates, error
    /// pages.
    pub fn file_uses(&self) -> Vec<FileUse> {
        let mut uses: Vec<FileUse> = Vec::new();
        for section in &self.sections {
            for directive in &section.directives {
                let mut add = |kind, path: String| {
                    uses.push(FileUse {
                        kind,
                        path,
                        file: section.file,
                        line: directive.line,
                    });
                };
                for pair in directive.words.windows(2) {
                    let [option, value] = pair else { continue };
                    let kind = match option.text.as_str() {
                        "crt-list" => FileKind::CrtList,
                        "crt" => FileKind::Certificate,
                        "-f" => FileKind::Acl,
                        _ => continue,
                    };
                    add(kind, value.text.clone());
                }
                if directive.keyword() == "errorfile"
                    && let Some(path) = directive.word(2)
                {
                    add(FileKind::ErrorFile, path.to_owned());
                }
                for word in directive.words.iter().filter(|word| !word.opaque) {
                    for map in maps_in(&word.text, section.file, directive.line) {
                        add(FileKind::Map, map.path);
                    }
                }
            }
        }
        uses
    }
}

impl MapUse {
    /// Whether its value is text (and not a number or an address).
    pub fn gives_text(&self) -> bool {
        let parts: Vec<&str> = self.converter.split('_').collect();
        parts.len() < 3 || parts.last() == Some(&"str")
    }
}

/// `before%[expression]after` with exactly one expression and no other log-format tag.
fn single_expression(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("%[")?;
    let (expression, after) = rest.rsplit_once(']')?;
    let other = before.contains('%') || after.contains('%') || expression.contains("%[");
    (!other).then_some((before, expression, after))
}

fn last_map(expression: &str, file: usize, line: usize) -> Option<MapUse> {
    let expression = expression
        .strip_prefix("%[")
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(expression);
    maps_in(expression, file, line)
        .into_iter()
        .find(|map| map.last && map.gives_text())
}

fn maps_in(word: &str, file: usize, line: usize) -> Vec<MapUse> {
    let mut maps = Vec::new();
    let mut from = 0;
    while let Some(found) = word[from..].find("map") {
        let start = from + found;
        from = start + 3;
        let inside_a_name = word[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let name_length = word[start..]
            .find(|c: char| !c.is_ascii_lowercase() && c != '_')
            .unwrap_or(word.len() - start);
        let converter = &word[start..start + name_length];
        let rest = &word[start + name_length..];
        let is_map = converter == "map" || converter.starts_with("map_");
        if inside_a_name || !is_map || !rest.starts_with('(') {
            continue;
        }
        let Some((arguments, length)) = arguments(&rest[1..]) else {
            continue;
        };
        let after = &rest[1 + length..];
        from = word.len() - after.len();
        let mut arguments = arguments.into_iter();
        let path = arguments.next().unwrap_or_default();
        let path = ["file@", "opt@"]
            .iter()
            .find_map(|prefix| path.strip_prefix(prefix))
            .unwrap_or(&path)
            .to_owned();
        maps.push(MapUse {
            converter: converter.to_owned(),
            path,
            default: arguments.next(),
            file,
            line,
            last: after.is_empty() || after.starts_with(']'),
        });
    }
    maps
}

/// The arguments up to the closing parenthesis, and how many bytes they take with it. Quotes here
/// are those of the second level (configuration manual 2.2).
fn arguments(text: &str) -> Option<(Vec<String>, usize)> {
    let mut arguments = vec![String::new()];
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match (character, quote) {
            ('"' | '\'', None) => quote = Some(character),
            (_, Some(open)) if character == open => quote = None,
            (',', None) => {
                arguments.push(String::new());
                continue;
            }
            (')', None) => return Some((arguments, at + 1)),
            ('\\', None | Some('"')) => {
                let (_, next) = characters.next()?;
                arguments.last_mut()?.push(next);
            }
            _ => arguments.last_mut()?.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_found_in_any_word() {
        let config = Config::parse(
            "frontend f\n http-request set-var(txn.be) hdr(host),lower,map_dom(/etc/hosts.map,none)\n\
             \n use_backend bk_%[path,map_beg(\"/etc/p.map\")]-x if a\n use_backend %[var(txn.be)]\n\
             \n http-request deny if { src,map_ip_int(/a.map,0) -m int gt 3 } { hdr(host) -f /acl.lst }\n\
             \n use_backend %[src,bitmap(x)]\n default_backend d\n bind :80 ssl crt /c.pem crt-list /l.txt\n",
        );
        let paths: Vec<_> = config.maps().into_iter().map(|map| map.path).collect();
        assert_eq!(paths, ["/etc/hosts.map", "/etc/p.map", "/a.map"]);
        let targets: Vec<_> = config
            .backend_uses()
            .into_iter()
            .map(|u| u.target)
            .collect();
        assert!(matches!(
            &targets[0],
            Target::Map { before, after, map, variable: None }
                if before == "bk_" && after == "-x" && map.path == "/etc/p.map" && map.default.is_none()
        ));
        assert!(matches!(
            &targets[1],
            Target::Map { map, variable: Some(variable), .. }
                if map.default.as_deref() == Some("none") && variable == "txn.be"
        ));
        assert_eq!(targets[2], Target::Computed("%[src,bitmap(x)]".into()));
        assert_eq!(targets[3], Target::Name("d".into()));
        let kinds: Vec<_> = config.file_uses().into_iter().map(|u| u.kind).collect();
        assert!(kinds.contains(&FileKind::Acl));
        assert!(kinds.contains(&FileKind::CrtList));
        assert!(kinds.contains(&FileKind::Certificate));
    }

    #[test]
    fn second_level_quotes_and_outputs_are_understood() {
        let map = &maps_in(r#"map_str_str("a,b)c.map",d\,e),lower"#, 0, 1)[0];
        assert_eq!(
            (map.path.as_str(), map.default.as_deref()),
            ("a,b)c.map", Some("d,e"))
        );
        assert!(!map.last);
        assert!(map.gives_text());
        assert!(!maps_in("map_int_ip(f)", 0, 1)[0].gives_text());
        assert!(maps_in("map(unclosed", 0, 1).is_empty());
    }
}
