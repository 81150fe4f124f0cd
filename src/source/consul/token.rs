//! The ACL token: a value or a file that is read again. It leaves this process in one header only.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;

use super::ConsulError;
use crate::source::secret::{self, Secret};

/// How often the token file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where the token comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TokenSource {
    /// Requests carry no token, so Consul uses its anonymous one.
    #[default]
    None,
    /// The token itself.
    Value(Secret),
    /// A file with the token; read again when it changes and after a 403.
    File(PathBuf),
}

/// The token as it stands, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenStatus {
    /// `none`, `value` or the path of the file.
    pub source: String,
    /// Why the file could not be read lately, or that Consul does not take what is in it; the token
    /// before stays in use.
    pub problem: Option<String>,
}

/// The token in use.
#[derive(Debug)]
pub(super) struct Token {
    source: TokenSource,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Option<Secret>,
    /// The last one that Consul took.
    accepted: Option<Secret>,
    /// The one in the file, where Consul has refused it.
    refused: Option<Secret>,
    looked_at: Instant,
    problem: Option<String>,
}

impl Token {
    /// Reads the token for the first time. A file that cannot be read now is an error.
    pub(super) fn load(source: TokenSource) -> Result<Token, ConsulError> {
        let current = match &source {
            TokenSource::None => None,
            TokenSource::Value(secret) if secret.reveal().is_empty() => None,
            TokenSource::Value(secret) => {
                check(secret.reveal()).map_err(ConsulError::Token)?;
                Some(secret.clone())
            }
            TokenSource::File(path) => Some(read(path).map_err(ConsulError::Token)?),
        };
        let state = Mutex::new(State {
            current,
            accepted: None,
            refused: None,
            looked_at: Instant::now(),
            problem: None,
        });
        Ok(Token { source, state })
    }

    /// The token to send now; looks at the file when the last look is a second old.
    pub(super) fn current(&self, now: Instant) -> Option<Secret> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.looked_at) >= LOOK_EVERY {
            self.look(&mut state, now);
        }
        state.current.clone()
    }

    /// Consul took this token.
    pub(super) fn accepted(&self, token: Option<&Secret>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.accepted.as_ref() != token {
            state.accepted = token.cloned();
        }
    }

    /// Consul has just refused these: looks at the file at once, and says which to try next. A new
    /// token may not be known to every server yet, so the one that was taken before comes after it.
    pub(super) fn after_refusal(&self, refused: &[Option<Secret>], now: Instant) -> Option<Secret> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.look(&mut state, now);
        if refused.contains(&state.current) {
            state.refused = state.current.clone();
        }
        [&state.current, &state.accepted]
            .into_iter()
            .find(|token| token.is_some() && !refused.contains(token))
            .cloned()
            .flatten()
    }

    /// For people.
    pub(super) fn status(&self) -> TokenStatus {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        TokenStatus {
            source: match &self.source {
                TokenSource::None => "none".to_owned(),
                TokenSource::Value(_) => "value".to_owned(),
                TokenSource::File(path) => path.display().to_string(),
            },
            problem: match &self.source {
                TokenSource::File(path)
                    if state.problem.is_none()
                        && state.accepted.is_some()
                        && state.accepted != state.current
                        && state.refused == state.current =>
                {
                    Some(format!(
                        "Consul has not taken the token in {} yet; the one before is tried after it.",
                        path.display()
                    ))
                }
                _ => state.problem.clone(),
            },
        }
    }

    fn look(&self, state: &mut State, now: Instant) {
        state.looked_at = now;
        if let TokenSource::File(path) = &self.source {
            match read(path) {
                Ok(secret) => {
                    state.current = Some(secret);
                    state.problem = None;
                }
                Err(problem) => state.problem = Some(problem),
            }
        }
    }
}

fn read(path: &Path) -> Result<Secret, String> {
    let wrong = |what: &str| format!("The token file {} {what}.", path.display());
    let secret = secret::read(path).map_err(|what| wrong(&what))?;
    check(secret.reveal()).map_err(|_| wrong("holds a character that no token has"))?;
    Ok(secret)
}

fn check(text: &str) -> Result<(), String> {
    HeaderValue::from_str(text)
        .map(drop)
        .map_err(|_| "The token holds a character that no header can carry.".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // L02
    #[test]
    fn a_token_file_is_read_again_and_a_bad_one_keeps_the_old_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let token = Token::load(TokenSource::File(path.clone())).unwrap();
        let now = Instant::now();
        let sent = token.current(now);
        assert_eq!(sent.as_ref().unwrap().reveal(), "first");
        std::fs::write(&path, "").unwrap();
        assert_eq!(token.after_refusal(std::slice::from_ref(&sent), now), None);
        assert!(token.status().problem.unwrap().contains("is empty"));
        std::fs::write(&path, "second").unwrap();
        assert_eq!(token.current(now), sent, "not before a second has passed");
        let later = token.current(now + LOOK_EVERY).unwrap();
        assert_eq!(later.reveal(), "second");
        std::fs::write(&path, "third\r\n").unwrap();
        let third = token.after_refusal(&[Some(later)], now).unwrap();
        assert_eq!(third.reveal(), "third");
        assert_eq!(token.status().problem, None);
        std::fs::remove_file(&path).unwrap();
        assert!(token.current(now + LOOK_EVERY * 3).is_some());
        assert!(Token::load(TokenSource::File(path)).is_err());
    }

    // L02
    #[test]
    fn the_old_token_stays_until_consul_takes_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        // As Kubernetes lays a secret out: the file is a link through a folder that is swapped.
        let name = |part: &str| folder.path().join(part);
        for (version, text) in [("..1", "old\n"), ("..2", "new\n")] {
            std::fs::create_dir(name(version)).unwrap();
            std::fs::write(name(version).join("token"), text).unwrap();
        }
        std::os::unix::fs::symlink("..1", name("..data")).unwrap();
        std::os::unix::fs::symlink("..data/token", name("token")).unwrap();
        let token = Token::load(TokenSource::File(name("token"))).unwrap();
        let now = Instant::now();
        let old = token.current(now);
        token.accepted(old.as_ref());
        assert_eq!(token.status().problem, None);

        std::os::unix::fs::symlink("..2", name("..new")).unwrap();
        std::fs::rename(name("..new"), name("..data")).unwrap();
        let new = token.current(now + LOOK_EVERY);
        assert_eq!(new.as_ref().unwrap().reveal(), "new");
        // Consul does not know it yet.
        let next = token.after_refusal(std::slice::from_ref(&new), now);
        assert_eq!(next, old);
        token.accepted(old.as_ref());
        assert!(token.status().problem.unwrap().contains("has not taken"));
        assert_eq!(token.after_refusal(&[new.clone(), old.clone()], now), None);
        // Now it does; the old one is used no more.
        token.accepted(new.as_ref());
        assert_eq!(token.status().problem, None);
        assert_eq!(token.after_refusal(std::slice::from_ref(&new), now), None);
        assert_eq!(token.current(now + LOOK_EVERY * 2), new);
    }

    // L01
    #[test]
    fn a_secret_is_never_shown() {
        let source = TokenSource::Value(Secret::new("canary"));
        let token = Token::load(source.clone()).unwrap();
        assert!(!format!("{source:?} {token:?} {:?}", token.status()).contains("canary"));
        let error = Token::load(TokenSource::Value(Secret::new("can\nary"))).unwrap_err();
        assert!(!error.to_string().contains("ary"), "{error}");
    }
}
