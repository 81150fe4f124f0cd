//! The status as anybody may read it who reaches the listener: without words of the configuration, of
//! what Consul sent and of the settings. The socket, which only its owner opens, tells everything.

use super::model::Status;

impl Status {
    /// Without anything that could be a word of the configuration, a value of a key or a part of the
    /// settings. Names of services, instances and files, counts and times stay.
    #[must_use]
    pub fn public(mut self) -> Status {
        if let Some(held) = &mut self.held {
            held.why = std::mem::take(&mut held.at);
        }
        if let Some(why) = &mut self.not_applied {
            "The last set could not be applied. `gatewright status` on the machine says why."
                .clone_into(why);
        }
        if let Some(kept) = &mut self.structure_kept
            && let Some(why) = &mut kept.not_current
        {
            "The servers of the last good set are not kept current. `gatewright status` on the machine says why."
                .clone_into(why);
        }
        self.template_errors = std::mem::take(&mut self.template_errors_at);
        if !self.settings_errors.is_empty() {
            let told = std::mem::take(&mut self.settings_errors);
            self.warnings.retain(|warning| !told.contains(warning));
            let sentence = "The settings on disk are wrong; those read before stay in force. `gatewright status` on the machine says what is wrong.";
            self.warnings.push(sentence.to_owned());
            self.settings_errors.push(sentence.to_owned());
        }
        if let Some(applied) = &mut self.applied {
            // A reason for a reload may quote a command.
            cut(&mut applied.story, " (not by commands");
            cut(&mut applied.story, ": written, not confirmed");
        }
        for query in &mut self.queries {
            if let Some(error) = &mut query.error {
                without_detail(error);
            }
        }
        if let Some(error) = &mut self.consul.last_error {
            without_detail(error);
        }
        self
    }
}

/// What Consul answered stands after what was asked.
fn without_detail(error: &mut String) {
    cut(error, " for ");
    error.push('.');
}

fn cut(text: &mut String, from: &str) {
    if let Some(at) = text.find(from) {
        text.truncate(at);
    }
}
