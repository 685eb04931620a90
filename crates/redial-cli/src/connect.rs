//! The flags by which every command reaches its server, and the client that they make.

use std::{collections::BTreeMap, path::PathBuf};

use redial_client::{Client, Config, Dialect};

use crate::{
    doors::{Doors, TlsFiles},
    failure::{Exit, Failure},
    flags::{addresses, duration},
    settings::{CommandLineSettings, Settings, attempts, file_path, name},
};

/// How a server is reached. Each of them is also a variable of the environment and a member of a
/// profile.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// A server without sessions: ask it for none
    #[arg(long)]
    plain: bool,
    /// Speak only {id, method, params}
    #[arg(long)]
    notebook: bool,
    /// Each address of the name is a server
    #[arg(long)]
    dns: bool,
    /// Speak TLS, and trust whom the system trusts
    #[arg(long)]
    tls: bool,
    /// Speak TLS, and trust these authorities (PEM)
    #[arg(long, value_name = "FILE", value_parser = as_text(file_path))]
    tls_ca: Option<String>,
    /// Show this certificate (PEM)
    #[arg(long, value_name = "FILE", value_parser = as_text(file_path))]
    tls_cert: Option<String>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", value_parser = as_text(file_path))]
    tls_key: Option<String>,
    /// Whom the server's certificate is for
    #[arg(long, value_name = "NAME", value_parser = as_text(name))]
    tls_name: Option<String>,
    /// Show the token in this file
    #[arg(long, value_name = "FILE", value_parser = as_text(file_path))]
    token_file: Option<String>,
    /// How long a call may take [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = as_text(duration))]
    deadline: Option<String>,
    /// When to send it again [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = as_text(duration))]
    attempt_timeout: Option<String>,
    /// How often to send it [default: 5]
    #[arg(long, value_name = "N", value_parser = as_text(attempts))]
    attempts: Option<String>,
}

/// Where the settings are from that no flag says.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub(crate) config: Option<PathBuf>,
    /// A profile of the configuration file
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    pub(crate) profile: Option<String>,
}

/// A parser that checks a text and leaves it as it is: what it means is read where the settings meet.
fn as_text<T>(
    read: impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync + 'static {
    move |text| read(text).map(|_| text.to_owned())
}

/// Hides from the help what [`ConnectArgs::reach_once`] refuses.
pub(crate) fn sent_once(flag: clap::Arg) -> clap::Arg {
    let is_refused = flag.get_id() == "attempts";
    if is_refused { flag.hide(true) } else { flag }
}

/// Whether a word of a command line is an address, and not a method: it has a colon, or is the name of a
/// profile.
pub(crate) fn is_address(word: &str) -> bool {
    word.starts_with('@') || word.contains(':')
}

/// Where a server is, how it is reached, and the limits of calls to it.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    pub(crate) doors: Doors,
    /// A command may change what it likes before it connects.
    pub(crate) config: Config,
}

impl ConnectArgs {
    /// Puts the flags together with the environment and the configuration file. `address` is ADDR, if it
    /// was given.
    ///
    /// # Errors
    ///
    /// Names what makes no sense, and what would.
    pub(crate) fn reach(&self, address: Option<&str>) -> Result<Reach, Failure> {
        Reach::by(&self.settings(address)?)
    }

    /// The same for what is sent once, and outside of sessions.
    ///
    /// # Errors
    ///
    /// As [`reach`](Self::reach), and for a flag that would do nothing.
    pub(crate) fn reach_once(&self, address: Option<&str>) -> Result<Reach, Failure> {
        if self.attempts.is_some() {
            let text = "--attempts is for calls that are sent again; expected none, since this is sent once";
            return Err(Failure::usage(text));
        }
        let mut reach = self.reach(address)?;
        reach.config.sessions = false;
        reach.config.call.max_attempts = 1;
        Ok(reach)
    }

    /// What is in force, and from where.
    pub(crate) fn settings(&self, address: Option<&str>) -> Result<Settings, Failure> {
        let switch = |is_on: bool| is_on.then(|| "true".to_owned());
        let flags = [
            ("dns", switch(self.dns)),
            ("tls", switch(self.tls)),
            ("tls-ca", self.tls_ca.clone()),
            ("tls-cert", self.tls_cert.clone()),
            ("tls-key", self.tls_key.clone()),
            ("tls-name", self.tls_name.clone()),
            ("token-file", self.token_file.clone()),
            ("plain", switch(self.plain)),
            ("notebook", switch(self.notebook)),
            ("deadline", self.deadline.clone()),
            ("attempt-timeout", self.attempt_timeout.clone()),
            ("attempts", self.attempts.clone()),
        ];
        let flags = flags.into_iter();
        let flags: BTreeMap<_, _> = flags
            .filter_map(|(name, text)| Some((name, text?)))
            .collect();
        Settings::gather(CommandLineSettings {
            config: self.config.config.clone(),
            profile: self.config.profile.clone(),
            address: address.map(str::to_owned),
            flags,
        })
    }
}

impl Reach {
    fn by(settings: &Settings) -> Result<Self, Failure> {
        let doors = Doors {
            addresses: settings
                .get("address", addresses)?
                .ok_or_else(|| Failure::usage("ADDR is missing; expected HOST:PORT"))?,
            dns: settings.is_on("dns")?,
            tls: tls(settings)?,
            token_file: settings.get("token-file", file_path)?,
        };
        Ok(Self {
            doors,
            config: config(settings)?,
        })
    }

    /// Whether what is to be said beside the params can be said.
    pub(crate) fn takes(&self, meta: &[(String, String)]) -> Result<(), Failure> {
        if meta.is_empty() || !self.config.assume_plain {
            return Ok(());
        }
        Err(Failure::usage(
            "--meta is for servers of Redial; expected none with --plain or --notebook, which say that it is another",
        ))
    }

    /// Connects, once, so that a server that isn't there is said at once.
    ///
    /// # Errors
    ///
    /// With the exit code for settings that make no sense, or for a server that can't be reached, in
    /// which case nothing was executed.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let builder = Client::builder().config(self.config.clone());
        let builder = self.doors.prepare(builder);
        let builder = builder.map_err(|error| Failure::new(Exit::Usage, error))?;
        Ok(self.doors.connect_prepared(builder).await?)
    }
}

fn tls(settings: &Settings) -> Result<Option<TlsFiles>, Failure> {
    let roots = settings.get("tls-ca", file_path)?;
    let certificate = settings.get("tls-cert", file_path)?;
    let key = settings.get("tls-key", file_path)?;
    let server_name = settings.get("tls-name", name)?;
    let needs = |one: &str, other: &str| {
        let source = settings
            .chosen(one)
            .map(|chosen| format!(" ({})", chosen.source));
        let source = source.unwrap_or_default();
        Failure::usage(format!("--{one}{source} goes with {other}; expected both"))
    };
    if certificate.is_some() != key.is_some() {
        return Err(match certificate {
            Some(_) => needs("tls-cert", "--tls-key"),
            None => needs("tls-key", "--tls-cert"),
        });
    }
    if roots.is_none() && !settings.is_on("tls")? {
        return match (&certificate, &server_name) {
            (Some(_), _) => Err(needs("tls-cert", "--tls-ca or --tls")),
            (_, Some(_)) => Err(needs("tls-name", "--tls-ca or --tls")),
            _ => Ok(None),
        };
    }
    Ok(Some(TlsFiles {
        roots,
        certificate: certificate.zip(key),
        name: server_name,
    }))
}

fn config(settings: &Settings) -> Result<Config, Failure> {
    let mut config = Config::default();
    if let Some(deadline) = settings.get("deadline", duration)? {
        config.call.deadline = deadline;
        config.connect_timeout = config.connect_timeout.min(deadline);
    }
    if let Some(timeout) = settings.get("attempt-timeout", duration)? {
        config.call.attempt_timeout = timeout;
    }
    if let Some(attempts) = settings.get("attempts", attempts)? {
        config.call.max_attempts = attempts;
    }
    let is_notebook = settings.is_on("notebook")?;
    if is_notebook {
        config.dialect = Dialect::Notebook;
        config.extensions = false;
    }
    config.assume_plain = is_notebook || settings.is_on("plain")?;
    Ok(config)
}
