//! The configuration file: profiles for servers, in TOML.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::SETTINGS;
use crate::failure::Failure;

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    /// Where it is, or would be; unknown where there is no home.
    pub(super) path: Option<PathBuf>,
    pub(super) is_there: bool,
    pub(super) profiles: Vec<Profile>,
    /// The profile that is in force if no other is named.
    pub(super) default_profile: Option<String>,
}

/// One table of `profiles`.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) name: String,
    members: Vec<(String, String)>,
}

impl Profile {
    pub(super) fn get(&self, member: &str) -> Option<&str> {
        let mut members = self.members.iter();
        members
            .find(|(name, _)| name == member)
            .map(|(_, text)| &**text)
    }
}

impl ConfigFile {
    /// Reads the file that was named, or the one in its usual place if that is there.
    pub(super) fn find(
        named: Option<PathBuf>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let by_flag = named.map(|path| ("--config", path));
        let by_variable = || Some(("REDIAL_CONFIG", variable("REDIAL_CONFIG")?.into()));
        if let Some((by, path)) = by_flag.or_else(by_variable) {
            return Self::read(&path)?.ok_or_else(|| {
                let path = path.display();
                Failure::usage(format!(
                    "{by} {path}: there is no such file; expected one in TOML, with [profiles.NAME]"
                ))
            });
        }
        let Some(path) = usual_place(variable) else {
            return Ok(Self::default());
        };
        let file = Self::read(&path)?;
        Ok(file.unwrap_or_else(|| Self {
            path: Some(path),
            ..Self::default()
        }))
    }

    fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let refuse = |why: String| Failure::usage(format!("{}: {why}", path.display()));
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refuse(error.to_string())),
        };
        let table: Table = text.parse().map_err(|error| refuse(format!("{error}")))?;
        let mut file = Self {
            path: Some(path.to_owned()),
            is_there: true,
            ..Self::default()
        };
        for (key, value) in table {
            match (&*key, value) {
                ("profile", Value::String(name)) => file.default_profile = Some(name),
                ("profiles", Value::Table(profiles)) => {
                    let profiles = profiles.into_iter();
                    let profiles = profiles.map(|(name, value)| Profile::read(name, value));
                    file.profiles = profiles.collect::<Result<_, _>>().map_err(refuse)?;
                }
                ("profile", _) => return Err(refuse("profile: expected a name in quotes".into())),
                _ => {
                    let expected = "expected profile = \"NAME\" and [profiles.NAME]";
                    return Err(refuse(format!("{key}: {expected}")));
                }
            }
        }
        Ok(Some(file))
    }

    /// # Errors
    ///
    /// That no profile has this name, who named it, and which there are.
    pub(super) fn profile(&self, name: &str, by: &str) -> Result<&Profile, Failure> {
        let found = self.profiles.iter().find(|profile| profile.name == name);
        found.ok_or_else(|| {
            let names: Vec<_> = self.profiles.iter().map(|one| one.name.as_str()).collect();
            let place = self
                .path
                .as_ref()
                .map_or_else(String::new, |path| format!(" in {}", path.display()));
            let known = if names.is_empty() {
                format!("expected [profiles.{name}]{place}")
            } else {
                format!("expected one of {}{place}", names.join(", "))
            };
            Failure::usage(format!("{by}: there is no profile {name:?}; {known}"))
        })
    }

    /// A path in the file counts from its folder, and `~/` from the home.
    pub(super) fn beside(&self, text: &str) -> String {
        let home = std::env::home_dir();
        let path = match (text.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => match self.path.as_ref().and_then(|path| path.parent()) {
                Some(folder) => folder.join(text),
                None => text.into(),
            },
        };
        path.to_string_lossy().into_owned()
    }
}

impl Profile {
    fn read(name: String, value: Value) -> Result<Self, String> {
        let Value::Table(table) = value else {
            return Err(format!(
                "profiles.{name}: expected a table, [profiles.{name}]"
            ));
        };
        let mut members = Vec::new();
        for (member, value) in table {
            let known = || SETTINGS.iter().map(|setting| setting.member());
            if !known().any(|one| one == member) {
                let known: Vec<_> = known().collect();
                let known = known.join(", ");
                return Err(format!(
                    "profiles.{name}.{member} is no setting; expected one of {known}"
                ));
            }
            let text = match value {
                Value::String(text) => text,
                Value::Boolean(is_on) => is_on.to_string(),
                Value::Integer(number) => number.to_string(),
                _ => {
                    let expected = "expected a text, a whole number, or true or false";
                    return Err(format!("profiles.{name}.{member}: {expected}"));
                }
            };
            members.push((member, text));
        }
        Ok(Self { name, members })
    }
}

/// `$XDG_CONFIG_HOME/redial/config.toml`, by default `~/.config/redial/config.toml`.
fn usual_place(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let base = match variable("XDG_CONFIG_HOME") {
        Some(base) => PathBuf::from(base),
        None => {
            PathBuf::from(variable("HOME").or_else(|| variable("USERPROFILE"))?).join(".config")
        }
    };
    Some(base.join("redial").join("config.toml"))
}
