//! The command line.
//!
//! What must always be true: an option that sets a key goes through the same
//! table as the file does, so both refuse the same values with the same words.
//! Called by `main`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::Sources;

/// A cache server whose protocols and stores are plugins.
///
/// Without arguments it serves resp on 127.0.0.1:6379 and memcache on
/// 127.0.0.1:11211 over segcache.
#[derive(Parser, Clone, Debug)]
#[command(name = "crucible-host", version, max_term_width = 100, subcommand_negates_reqs = true)]
pub struct Cli {
    /// Protocol plugin to serve, perhaps with its address (repeatable); replaces the file's listeners
    #[arg(long = "plugin", value_name = "FILE|NAME[@ADDR]")]
    pub plugins: Vec<String>,

    /// Storage plugin [cache.backend]
    #[arg(long, value_name = "FILE|NAME")]
    pub backend: Option<String>,

    /// Folder to search for plugins first (repeatable) [plugins.dirs]
    #[arg(long = "plugin-dir", value_name = "DIR")]
    pub plugin_dirs: Vec<PathBuf>,

    /// Configuration file, TOML
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Host (and port, with one listener) for listeners that have no address
    #[arg(long, value_name = "HOST[:PORT]")]
    pub bind: Option<String>,

    /// Worker threads [workers.threads]
    #[arg(long, value_name = "N")]
    pub threads: Option<String>,

    /// CPU of each worker, such as 0,2,4-7:2 [workers.cpu_affinity]
    #[arg(long, value_name = "LIST")]
    pub cpu_affinity: Option<String>,

    /// Memory of the store, such as 4GiB [cache.heap_size]
    #[arg(long, value_name = "SIZE")]
    pub heap_size: Option<String>,

    /// Connections of all listeners [limits.max_connections]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<String>,

    /// Address of the admin server [admin.address]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,

    /// Log level [logging.level]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// Any key of the configuration file (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// Take the listeners over from the process that serves now [takeover.socket]
    #[arg(long)]
    pub takeover: bool,

    /// Check the configuration and the plugins, then exit
    #[arg(long)]
    pub check_config: bool,

    /// Print the effective configuration with comments, then exit
    #[arg(long)]
    pub print_config: bool,

    /// Something else than serving
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Something else than serving.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// What can be said of plugins without running them
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Read a password from standard input and print what `users` takes
    HashPassword,
    /// Write man pages and shell completions, for packages
    #[command(hide = true)]
    Manual {
        /// Folder to write into
        dir: PathBuf,
    },
    /// Print the reference of the configuration file, in Markdown
    #[command(hide = true)]
    Reference,
}

/// `crucible-host plugin ..`
#[derive(Subcommand, Clone, Debug)]
pub enum PluginCommand {
    /// Plugins in the folders that are searched
    List {
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// One plugin: kind, versions, capabilities, commands, settings
    Inspect {
        /// Name or file
        plugin: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Holds a plugin to the contract, each claim in a process of its own
    Check(CheckArgs),
    /// Writes a crate with a working plugin, its tests and a CI file
    New {
        /// protocol or backend
        kind: NewKind,
        /// Name of the plugin: letters, digits, `-` and `_`
        name: String,
        /// Folder to make [default: ./NAME]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Folder of crucible-plugin-api, instead of a version from a registry
        #[arg(long, value_name = "DIR")]
        api: Option<PathBuf>,
    },
}

/// What `plugin new` makes.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewKind {
    /// Bytes of clients to operations
    Protocol,
    /// Operations to items
    Backend,
}

/// `crucible-host plugin check`
#[derive(clap::Args, Clone, Debug)]
pub struct CheckArgs {
    /// Name or file
    pub plugin: String,
    /// The plugin's settings, JSON [default: a heap_size of 64 MiB where there is such a setting]
    #[arg(long, value_name = "JSON")]
    pub settings: Option<String>,
    /// File with a request of the protocol, to make input from (repeatable)
    #[arg(long = "sample", value_name = "FILE")]
    pub samples: Vec<PathBuf>,
    /// The store may forget items to make room
    #[arg(long)]
    pub evicts: bool,
    /// Longest time for a claim, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// In the child: the claim to check
    #[arg(long, hide = true)]
    pub claim: Option<usize>,
}

/// A refusal of the command line that clap does not see.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// `--set` without `=`.
    #[error("--set {0}: expected KEY=VALUE, as in --set workers.threads=2")]
    Set(String),
}

impl Cli {
    /// Where settings come from, with the process's environment.
    ///
    /// # Errors
    /// When an option has no key.
    pub fn sources(&self) -> Result<Sources, CliError> {
        let mut options = Vec::new();
        let named = [
            ("cache.backend", &self.backend, "--backend"),
            ("workers.threads", &self.threads, "--threads"),
            ("workers.cpu_affinity", &self.cpu_affinity, "--cpu-affinity"),
            ("cache.heap_size", &self.heap_size, "--heap-size"),
            ("limits.max_connections", &self.max_connections, "--max-connections"),
            ("admin.address", &self.admin, "--admin"),
            ("logging.level", &self.log_level, "--log-level"),
        ];
        for text in &self.set {
            let (key, value) = text.split_once('=').ok_or_else(|| CliError::Set(text.clone()))?;
            options.push((key.trim().to_owned(), value.trim().to_owned(), format!("--set {key}")));
        }
        for (key, value, option) in named {
            if let Some(value) = value {
                options.push((key.to_owned(), value.clone(), option.to_owned()));
            }
        }
        if let Ok(dirs) = std::env::join_paths(&self.plugin_dirs)
            && !self.plugin_dirs.is_empty()
        {
            let dirs = dirs.to_string_lossy().into_owned();
            options.push(("plugins.dirs".into(), dirs, "--plugin-dir".into()));
        }
        Ok(Sources {
            file: self.config.clone(),
            environment: std::env::vars()
                .filter(|(name, _)| name.starts_with("CRUCIBLE_"))
                .collect(),
            options,
            plugins: self.plugins.clone(),
            bind: self.bind.clone(),
        })
    }
}
