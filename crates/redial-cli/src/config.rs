//! `redial config`: what is in force, and from where.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::{
    connect::ConnectArgs,
    failure::Failure,
    output,
    settings::{SETTINGS, Settings},
};

/// What a command with the same flags would go by.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// HOST:PORT, unix:/path, A,B,C or @PROFILE
    addr: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl ShowArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let settings = self.connect.settings(self.addr.as_deref())?;
        let text = if self.json {
            as_json(&settings).to_string()
        } else {
            as_text(&settings)
        };
        output::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn as_text(settings: &Settings) -> String {
    let rows = SETTINGS
        .iter()
        .map(|setting| match settings.chosen(setting.name) {
            Some(chosen) => vec![
                setting.name.to_owned(),
                chosen.text.clone(),
                chosen.source.to_string(),
            ],
            None => vec![setting.name.to_owned(), "-".to_owned(), String::new()],
        });
    let table = output::table(
        &["setting", "value", "from"],
        &rows.collect::<Vec<_>>(),
        &[],
    );
    let file = match &settings.file {
        None => "no configuration file: there is no home".to_owned(),
        Some((path, false)) => format!("no configuration file at {}", path.display()),
        Some((path, true)) if settings.profiles.is_empty() => {
            format!("{}, without profiles", path.display())
        }
        Some((path, true)) => {
            let profiles = settings.profiles.join(", ");
            format!("{}, with the profiles {profiles}", path.display())
        }
    };
    let profile = settings.profile.as_ref();
    let profile = profile.map_or("no profile".to_owned(), |name| format!("profile {name}"));
    format!("{table}\n\nin force: {profile}; {file}")
}

/// What `--json` prints. **Stable**: members are added, never changed.
fn as_json(settings: &Settings) -> Value {
    let chosen = SETTINGS.iter().filter_map(|setting| {
        let chosen = settings.chosen(setting.name)?;
        let value = json!({ "value": chosen.text, "from": chosen.source.to_string() });
        Some((setting.name.replace('-', "_"), value))
    });
    json!({
        "settings": chosen.collect::<Map<_, _>>(),
        "profile": settings.profile,
        "profiles": settings.profiles,
        "file": settings.file.as_ref().filter(|(_, is_there)| *is_there).map(|(path, _)| path),
    })
}
