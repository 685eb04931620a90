//! What is in force, and from where: a flag before the environment, that before the profile, and that
//! before the default.

mod file;

use std::{collections::BTreeMap, env, fmt, path::PathBuf};

use self::file::{ConfigFile, Profile};
use crate::{
    failure::Failure,
    flags::{addresses, duration, whole},
};

/// How many attempts of a call.
const ATTEMPTS: crate::flags::Whole = 1..=1_000_000;

/// Something that a flag, a variable of the environment and a member of a profile can say, all of one
/// name: `tls-ca`, `REDIAL_TLS_CA`, `tls_ca`.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) default: Option<&'static str>,
    is_right: fn(&str) -> Result<(), String>,
    /// A path, which in a file counts from the file's folder.
    is_path: bool,
}

/// All of them, in the order in which they are shown.
pub(crate) static SETTINGS: [Setting; 13] = [
    value("address", Some("127.0.0.1:7077"), |text| {
        addresses(text).map(drop)
    }),
    value("dns", Some("false"), |text| switch(text).map(drop)),
    value("tls", Some("false"), |text| switch(text).map(drop)),
    path("tls-ca"),
    path("tls-cert"),
    path("tls-key"),
    value("tls-name", None, |text| name(text).map(drop)),
    path("token-file"),
    value("plain", Some("false"), |text| switch(text).map(drop)),
    value("notebook", Some("false"), |text| switch(text).map(drop)),
    value("deadline", Some("10s"), |text| duration(text).map(drop)),
    value("attempt-timeout", Some("1s"), |text| {
        duration(text).map(drop)
    }),
    value("attempts", Some("5"), |text| attempts(text).map(drop)),
];

const fn value(
    name: &'static str,
    default: Option<&'static str>,
    is_right: fn(&str) -> Result<(), String>,
) -> Setting {
    Setting {
        name,
        default,
        is_right,
        is_path: false,
    }
}

const fn path(name: &'static str) -> Setting {
    let is_right: fn(&str) -> Result<(), String> = |text| file_path(text).map(drop);
    Setting {
        name,
        default: None,
        is_right,
        is_path: true,
    }
}

impl Setting {
    /// The variable of the environment, as in `REDIAL_TLS_CA`.
    pub(crate) fn variable(&self) -> String {
        format!("REDIAL_{}", self.name.to_uppercase().replace('-', "_"))
    }

    /// The member of a profile, as in `tls_ca`.
    fn member(&self) -> String {
        self.name.replace('-', "_")
    }
}

/// A yes or a no.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

pub(crate) fn attempts(text: &str) -> Result<u32, String> {
    whole(ATTEMPTS)(text)
}

pub(crate) fn name(text: &str) -> Result<String, String> {
    let is_name = !text.trim().is_empty();
    is_name
        .then(|| text.to_owned())
        .ok_or_else(|| "expected a name".to_owned())
}

pub(crate) fn file_path(text: &str) -> Result<PathBuf, String> {
    let is_path = !text.is_empty();
    is_path
        .then(|| text.into())
        .ok_or_else(|| "expected the path of a file".to_owned())
}

/// From where a setting is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Argument,
    Flag,
    Variable(String),
    Profile { name: String, file: PathBuf },
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument => f.write_str("ADDR"),
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => f.write_str(name),
            Self::Profile { name, file } => write!(f, "profile {name} in {}", file.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What a setting is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) text: String,
    pub(crate) source: Source,
}

/// All settings of one command.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    chosen: BTreeMap<&'static str, Chosen>,
    /// The configuration file, and whether it is there.
    pub(crate) file: Option<(PathBuf, bool)>,
    pub(crate) profile: Option<String>,
    /// All profiles of the file.
    pub(crate) profiles: Vec<String>,
}

/// What a command line says of its settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommandLineSettings {
    /// `--config`.
    pub(crate) config: Option<PathBuf>,
    /// `--profile`.
    pub(crate) profile: Option<String>,
    /// ADDR, which may be `@PROFILE`.
    pub(crate) address: Option<String>,
    /// What flags say, by the setting's name.
    pub(crate) flags: BTreeMap<&'static str, String>,
}

impl Settings {
    /// Puts together what the command line, the environment and the configuration file say.
    ///
    /// # Errors
    ///
    /// Names the flag, the variable, or the file and its member, with what would be right.
    pub(crate) fn gather(given: CommandLineSettings) -> Result<Self, Failure> {
        Self::from(given, |name| {
            // What is no text is read as far as it goes, so that it is refused where it stands.
            let text = env::var_os(name).filter(|text| !text.is_empty())?;
            Some(text.to_string_lossy().into_owned())
        })
    }

    fn from(
        mut given: CommandLineSettings,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let file = ConfigFile::find(given.config.take(), &variable)?;
        let named_by_address = given.address.take_if(|text| text.starts_with('@'));
        let profile = Self::profile(&given, named_by_address.clone(), &file, &variable)?;
        let mut chosen = BTreeMap::new();
        // A profile's name in the place of the address means the profile's address, whatever the environment says.
        if let Some((text, profile)) = named_by_address.zip(profile) {
            let address = SETTINGS[0].of_profile(profile, &file);
            let address = address.ok_or_else(|| {
                Failure::usage(format!(
                    "{text}: this profile has no address; expected one, or ADDR"
                ))
            })?;
            SETTINGS[0].check(&address)?;
            chosen.insert(SETTINGS[0].name, address);
        }
        for setting in &SETTINGS {
            if chosen.contains_key(setting.name) {
                continue;
            }
            if let Some(found) = setting.choose(&mut given, profile, &file, &variable) {
                setting.check(&found)?;
                chosen.insert(setting.name, found);
            }
        }
        Ok(Self {
            chosen,
            profile: profile.map(|profile| profile.name.clone()),
            profiles: file.profiles.iter().map(|one| one.name.clone()).collect(),
            file: file.path.map(|path| (path, file.is_there)),
        })
    }

    /// The profile that `@NAME`, `--profile`, the environment or the file itself names.
    fn profile<'a>(
        given: &CommandLineSettings,
        address: Option<String>,
        file: &'a ConfigFile,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<&'a Profile>, Failure> {
        let by_address = address.map(|text| (text[1..].to_owned(), text));
        let by_flag = given
            .profile
            .clone()
            .map(|name| (name, "--profile".to_owned()));
        if let (Some((name, text)), Some((other, _))) = (&by_address, &by_flag)
            && name != other
        {
            return Err(Failure::usage(format!(
                "{text} and --profile {other} are two profiles; expected one"
            )));
        }
        let by_variable = || Some((variable("REDIAL_PROFILE")?, "REDIAL_PROFILE".to_owned()));
        let by_file = || Some((file.default_profile.clone()?, "profile".to_owned()));
        let named = by_address.or(by_flag).or_else(by_variable).or_else(by_file);
        named.map(|(name, by)| file.profile(&name, &by)).transpose()
    }

    /// What a setting is, read as what it is.
    pub(crate) fn get<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let Some(chosen) = self.chosen.get(name) else {
            return Ok(None);
        };
        let value = read(&chosen.text).map_err(|expected| refuse(name, chosen, &expected))?;
        Ok(Some(value))
    }

    /// Whether a setting is switched on.
    pub(crate) fn is_on(&self, name: &str) -> Result<bool, Failure> {
        Ok(self.get(name, switch)?.unwrap_or_default())
    }

    /// A setting, and where it is from.
    pub(crate) fn chosen(&self, name: &str) -> Option<&Chosen> {
        self.chosen.get(name)
    }
}

impl Setting {
    fn choose(
        &self,
        given: &mut CommandLineSettings,
        profile: Option<&Profile>,
        file: &ConfigFile,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Option<Chosen> {
        let address = given.address.take_if(|_| self.name == "address");
        if let Some(text) = address {
            return Some(Chosen {
                text,
                source: Source::Argument,
            });
        }
        if let Some(text) = given.flags.remove(self.name) {
            return Some(Chosen {
                text,
                source: Source::Flag,
            });
        }
        if let Some(text) = variable(&self.variable()) {
            return Some(Chosen {
                text,
                source: Source::Variable(self.variable()),
            });
        }
        let by_profile = profile.and_then(|profile| self.of_profile(profile, file));
        by_profile.or_else(|| {
            let text = self.default?.to_owned();
            Some(Chosen {
                text,
                source: Source::Default,
            })
        })
    }

    fn of_profile(&self, profile: &Profile, file: &ConfigFile) -> Option<Chosen> {
        let text = profile.get(&self.member())?;
        let text = if self.is_path && !text.is_empty() {
            file.beside(text)
        } else {
            text.to_owned()
        };
        let (name, file) = (profile.name.clone(), file.path.clone()?);
        Some(Chosen {
            text,
            source: Source::Profile { name, file },
        })
    }

    fn check(&self, chosen: &Chosen) -> Result<(), Failure> {
        (self.is_right)(&chosen.text).map_err(|expected| refuse(self.name, chosen, &expected))
    }
}

/// Says what is wrong, and where it stands.
fn refuse(name: &str, chosen: &Chosen, expected: &str) -> Failure {
    let what = match &chosen.source {
        Source::Argument => "ADDR".to_owned(),
        Source::Flag | Source::Default => format!("--{name}"),
        Source::Variable(variable) => variable.clone(),
        Source::Profile {
            name: profile,
            file,
        } => {
            let member = name.replace('-', "_");
            format!("{}: profiles.{profile}.{member}", file.display())
        }
    };
    Failure::usage(format!("{what} is {:?}; {expected}", chosen.text))
}
