//! Programs that a test writes before something starts them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Outcome;

/// Writes a script that can be started at once.
///
/// A child process writes it, for this process must never hold it open: another child that is being started at that
/// moment would hold it, too, and the system starts no program that is open for writing (`ETXTBSY`, execve(2)).
pub fn write(path: &Path, text: &str) -> Outcome<()> {
    let failed = |why: String| format!("The script {} cannot be written: {why}.", path.display());
    let mut child = Command::new("sh")
        .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let written = match child.stdin.take() {
        Some(mut input) => input.write_all(text.as_bytes()),
        None => Ok(()),
    };
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    written.map_err(|error| failed(error.to_string()))?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(format!("sh ended with {status}")))
    }
}
