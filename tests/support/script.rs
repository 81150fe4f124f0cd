//! Programs that a test writes and then runs.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Outcome;

/// Writes an executable file. A short-lived child writes it: no other child can inherit the file open for writing, which
/// would make its execution fail (ETXTBSY).
pub fn write(path: &Path, text: &str) -> Outcome<()> {
    let failed = |why: String| format!("{} cannot be written: {why}.", path.display());
    let mut child = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let stdin = child.stdin.take();
    let written = stdin.map_or(Ok(()), |mut stdin| stdin.write_all(text.as_bytes()));
    let status = child.wait().and_then(|status| written.map(|()| status));
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}
