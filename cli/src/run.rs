//! `weft run`: the daemon.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::json;
use tokio::sync::oneshot;
use weft_node::control::{self, Control};
use weft_node::dir::{self, DataDir, DirError, KeyFileError};
use weft_node::{Node, Roles, StartError};

use crate::config::{self, Config, DhtMode, StorePart};
use crate::failure::{Exit, Failure};
use crate::global::Global;
use crate::logging;
use crate::signals::Signals;

/// The network where none is named.
const NETWORK_DEFAULT: &str = "weft";

/// Where a node listens where nothing is said: on this machine alone, since who else may reach it is for its user to say.
const LISTEN_DEFAULT: &str = "/ip4/127.0.0.1/tcp/0";

const AFTER_HELP: &str = "\
weft run                                                   a node that waits to be joined
weft run --join /ip4/192.0.2.1/tcp/4001                    one that joins another's network
weft run --network home --listen /ip4/0.0.0.0/tcp/4001     one that other machines can reach
weft run --listen /ip4/0.0.0.0/udp/4001/quic-v1            the same over QUIC; both may be listened on

Prints one line when it is ready. Ctrl-C or SIGTERM says goodbye to the neighbours and ends it.
A flag goes before its WEFT_* variable, that before weft.toml in the daemon's directory, which may have:
  network = \"home\"
  listen = [\"/ip4/0.0.0.0/tcp/4001\"]
  join = [\"/ip4/192.0.2.1/tcp/4001\"]
  key = \"id_ed25519\"
  dht_mode = \"server\"
  log = \"info\"";

/// Runs a node until it is told to stop
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The network's name; nodes of another name are refused [default: weft]
    #[arg(
        long,
        env = "WEFT_NETWORK",
        value_name = "NAME",
        hide_env_values = true
    )]
    network: Option<String>,
    /// Where to listen, a multiaddress; may be repeated [default: /ip4/127.0.0.1/tcp/0, any free port]
    #[arg(long, env = "WEFT_LISTEN", value_name = "ADDR", value_delimiter = ',', num_args = 1.., hide_env_values = true)]
    listen: Vec<String>,
    /// Whom to join, a multiaddress; may be repeated; tried for ever
    #[arg(long, env = "WEFT_JOIN", value_name = "ADDR", value_delimiter = ',', num_args = 1.., hide_env_values = true)]
    join: Vec<String>,
    /// The node's key, an OpenSSH ed25519 private key [default: id_ed25519 in the directory, made if absent]
    #[arg(long, env = "WEFT_KEY", value_name = "FILE", hide_env_values = true)]
    key: Option<PathBuf>,
    /// The node's part in the DHT: a server answers others, a client only asks [default: server]
    #[arg(long, env = "WEFT_DHT", value_name = "MODE", hide_env_values = true)]
    dht: Option<DhtMode>,
    /// Whether a server keeps records of the replicated store for others [default: yes]
    #[arg(long, env = "WEFT_STORE", value_name = "PART", hide_env_values = true)]
    store: Option<StorePart>,
    /// Begin a network although there is somebody to join: don't wait for a node that holds what the store holds
    #[arg(long)]
    found: bool,
    /// What to log: off, error, warn, info, debug, trace, or directives such as info,weft_node=debug [default: info]
    #[arg(long, env = "WEFT_LOG", value_name = "LEVEL", hide_env_values = true)]
    log: Option<String>,
    /// End when standard input ends, as when the process that started this one has died
    #[arg(long)]
    exit_with_stdin: bool,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let mut ends = Ends::new(args.exit_with_stdin)?;
    // First of all, so that a second daemon touches nothing of the first one's.
    let data = open(&data_path(global)?)?;
    let settings = Settings::of(args, config::load(data.path())?, &data)?;
    let set_log_level = logging::start(&settings.log).map_err(|reason| {
        Failure::new(Exit::Usage, format!("{:?} is no log level: {reason}", settings.log))
            .hint("--log takes off, error, warn, info, debug, trace, or directives such as info,weft_node=debug")
    })?;
    match dir::raise_open_files_limit() {
        Ok(limit) => tracing::debug!(?limit, "limit on open files"),
        Err(error) => {
            tracing::warn!(%error, "can't raise the limit on open files; many links may hit it");
        }
    }
    let keypair = data
        .load_or_make_key(settings.key.as_deref())
        .map_err(|error| key_failure(&error))?;
    let config = weft_node::Config {
        keypair,
        network: settings.network,
        listen: addresses("--listen", &settings.listen)?,
        join: addresses("--join", &settings.join)?,
        dir: Some(data.path().to_owned()),
        roles: settings.roles,
        found: settings.found,
    };
    let node = tokio::select! {
        started = Node::start(config) => started.map_err(|error| start_failure(&error))?,
        cause = ends.next() => {
            tracing::info!(cause, "stopped before the node was ready");
            return Ok(());
        }
    };
    let control = match control::serve(node.clone(), data.path(), Some(set_log_level)) {
        Ok(control) => control,
        Err(error) => {
            node.shutdown().await;
            return Err(Failure::new(Exit::Error, error.to_string()));
        }
    };
    // Whoever waits for this line may have gone; the daemon runs all the same.
    let _ = say_ready(global, &node, &control);
    tokio::select! {
        cause = ends.next() => tracing::info!(cause, "stopping"),
        () = node.stopped() => tracing::info!("stopping"),
    }
    node.shutdown().await;
    control.stop().await;
    if node.has_failed() {
        // Whoever watches over the daemon shall know that this was no ordinary end.
        return Err(Failure::new(Exit::Error, "the node has failed")
            .hint("its log says why; start it again: weft run"));
    }
    Ok(())
}

fn data_path(global: &Global) -> Result<PathBuf, Failure> {
    match &global.node {
        None => {
            let dir = global.dir()?;
            // As others can use it, wherever they are.
            Ok(std::path::absolute(&dir).unwrap_or(dir))
        }
        Some(node) => Err(
            Failure::new(Exit::Usage, "a testnet starts its nodes itself").hint(format!(
                "weft testnet restart {node}, or name a directory with --dir"
            )),
        ),
    }
}

fn open(path: &std::path::Path) -> Result<DataDir, Failure> {
    DataDir::open(path).map_err(|error| {
        let message = error.to_string();
        match error {
            DirError::InUse { path, .. } => Failure::new(Exit::Error, message).hint(format!(
                "use it: weft --dir {} status; or name another directory with --dir",
                path.display()
            )),
            DirError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Failure::new(Exit::NotAllowed, message).hint("name a directory of yours with --dir")
            }
            DirError::Io { .. } => {
                Failure::new(Exit::Error, message).hint("name another directory with --dir")
            }
        }
    })
}

/// What the daemon is told, from flags, variables, the file and defaults, in this order.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    network: String,
    listen: Vec<String>,
    join: Vec<String>,
    key: Option<PathBuf>,
    roles: Roles,
    found: bool,
    log: String,
}

impl Settings {
    fn of(args: Args, file: Config, data: &DataDir) -> Result<Self, Failure> {
        let given = |values: Vec<String>| (!values.is_empty()).then_some(values);
        let settings = Self {
            network: args
                .network
                .or(file.network)
                .unwrap_or_else(|| NETWORK_DEFAULT.to_owned()),
            listen: given(args.listen)
                .or(file.listen)
                .unwrap_or_else(|| vec![LISTEN_DEFAULT.to_owned()]),
            join: given(args.join).or(file.join).unwrap_or_default(),
            key: args
                .key
                .or_else(|| file.key.map(|key| data.path().join(key))),
            roles: match args.dht.or(file.dht_mode).unwrap_or(DhtMode::Server) {
                DhtMode::Server => Roles {
                    stores: args.store.or(file.store) != Some(StorePart::No),
                    ..Roles::SERVER
                },
                DhtMode::Client => Roles::CLIENT,
            },
            found: args.found,
            log: args
                .log
                .or(file.log)
                .unwrap_or_else(|| logging::LEVEL_DEFAULT.to_owned()),
        };
        check_network(&settings.network)?;
        Ok(settings)
    }
}

/// Refuses a name that no network can have before anything is touched.
fn check_network(name: &str) -> Result<(), Failure> {
    weft_node::check_network(name).map_err(|error| start_failure(&error))
}

/// Reads multiaddresses; their type is the node's affair.
fn addresses<A>(flag: &str, texts: &[String]) -> Result<Vec<A>, Failure>
where
    A: FromStr<Err: std::fmt::Display>,
{
    let parse = |text: &String| {
        text.parse().map_err(|error| {
            Failure::new(
                Exit::Usage,
                format!("{flag}: {text:?} is no multiaddress: {error}"),
            )
            .hint("write it as /ip4/127.0.0.1/tcp/4001")
        })
    };
    texts.iter().map(parse).collect()
}

fn key_failure(error: &KeyFileError) -> Failure {
    let message = error.to_string();
    match error {
        KeyFileError::Exposed { path, .. } => {
            Failure::new(Exit::NotAllowed, message).hint(format!(
                "chmod 600 {}; if others may have read it, make a new one",
                path.display()
            ))
        }
        KeyFileError::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Failure::new(Exit::NotAllowed, message)
                .hint("ssh-keygen -t ed25519 -N '' -f FILE makes one; without --key the node makes its own")
        }
        KeyFileError::Unreadable { .. } => Failure::new(Exit::NotAllowed, message)
            .hint("make it readable for this user alone, or name another with --key"),
        KeyFileError::Invalid { .. } => Failure::new(Exit::Error, message)
            .hint("ssh-keygen -t ed25519 -N '' -f FILE makes one that works"),
        KeyFileError::Make { .. } => {
            Failure::new(Exit::Error, message).hint("is the disk full, or the directory read-only?")
        }
    }
}

fn start_failure(error: &StartError) -> Failure {
    match error {
        StartError::PortInUse { address } => {
            Failure::new(Exit::Error, format!("can't listen on {address}: the port is in use"))
                .hint("stop the other process, or choose another port with --listen; port 0 takes any free one")
        }
        StartError::Listen { address, reason } => {
            Failure::new(Exit::Error, format!("can't listen on {address}: {reason}"))
                .hint("choose an address of this machine with --listen, such as /ip4/127.0.0.1/tcp/0")
        }
        StartError::Disk { path, reason } => {
            Failure::new(Exit::Error, format!("can't use {}: {reason}", path.display()))
                .hint("is the disk full, or the directory read-only?")
        }
        StartError::Config { reason } => Failure::new(Exit::Usage, reason.clone()),
    }
}

/// Prints the one line that says that the node is ready.
fn say_ready(global: &Global, node: &Node, control: &Control) -> io::Result<()> {
    let addresses: Vec<String> = node.addresses().iter().map(ToString::to_string).collect();
    let mut stdout = io::stdout().lock();
    if global.json {
        let ready = json!({
            "ready": true,
            "peer_id": node.peer_id().to_string(),
            "network": node.network(),
            "pid": std::process::id(),
            "control": control.socket(),
            "addresses": addresses,
        });
        writeln!(stdout, "{ready}")?;
    } else {
        writeln!(
            stdout,
            "ready peer_id={} network={} pid={} control={} addresses={}",
            node.peer_id(),
            node.network(),
            std::process::id(),
            control.socket().display(),
            addresses.join(",")
        )?;
    }
    stdout.flush()
}

/// What ends the daemon from outside.
struct Ends {
    signals: Signals,
    stdin_ended: Option<oneshot::Receiver<()>>,
}

impl Ends {
    fn new(exit_with_stdin: bool) -> io::Result<Self> {
        Ok(Self {
            signals: Signals::new()?,
            stdin_ended: exit_with_stdin.then(watch_stdin),
        })
    }

    /// Waits for the first of them, and names it.
    async fn next(&mut self) -> &'static str {
        let stdin_ended = async {
            match &mut self.stdin_ended {
                // The sender is never used: its drop is the end.
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            signal = self.signals.next() => signal,
            () = stdin_ended => "end of standard input",
        }
    }
}

/// Reads standard input to its end on a thread of its own, since a read of it can't be interrupted.
fn watch_stdin() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut ignored = [0; 1_024];
        loop {
            match stdin.read(&mut ignored) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        drop(sender);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_args() -> Args {
        Args {
            network: None,
            listen: Vec::new(),
            join: Vec::new(),
            key: None,
            dht: None,
            store: None,
            found: false,
            log: None,
            exit_with_stdin: false,
        }
    }

    #[test]
    fn a_flag_goes_before_the_file_and_that_before_the_default() {
        let temp = tempfile::tempdir().unwrap();
        let data = DataDir::open(temp.path()).unwrap();
        let file = Config {
            network: Some("file".into()),
            join: Some(vec!["j".into()]),
            key: Some("k".into()),
            dht_mode: Some(DhtMode::Client),
            ..Config::default()
        };
        let args = Args {
            network: Some("flag".into()),
            ..no_args()
        };
        let settings = Settings::of(args, file, &data).unwrap();
        assert_eq!(settings.network, "flag");
        assert_eq!(settings.join, ["j"]);
        assert_eq!(settings.listen, [LISTEN_DEFAULT]);
        assert_eq!(settings.key, Some(temp.path().join("k")));
        assert_eq!(settings.roles, Roles::CLIENT);
        assert_eq!(settings.log, "info");
    }

    #[test]
    fn a_server_stores_unless_it_is_told_not_to_and_a_client_never_does() {
        let temp = tempfile::tempdir().unwrap();
        let data = DataDir::open(temp.path()).unwrap();
        let stores = |dht, flag, file| {
            let args = Args {
                dht,
                store: flag,
                ..no_args()
            };
            let file = Config {
                store: file,
                ..Config::default()
            };
            Settings::of(args, file, &data).unwrap().roles.stores
        };
        let (yes, no) = (Some(StorePart::Yes), Some(StorePart::No));
        assert!(stores(None, None, None) && stores(None, yes, no));
        assert!(!stores(None, no, yes) && !stores(None, None, no));
        assert!(!stores(Some(DhtMode::Client), yes, None));
    }

    #[test]
    fn a_second_daemon_is_told_who_is_there() {
        let temp = tempfile::tempdir().unwrap();
        let _first = open(temp.path()).unwrap();
        let failure = open(temp.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::Error);
        assert!(
            failure
                .to_string()
                .contains(&format!("pid {}", std::process::id())),
            "{failure}"
        );
    }

    #[test]
    fn keys_are_refused_with_the_remedy() {
        let exposed = KeyFileError::Exposed {
            path: "/k".into(),
            mode: 0o644,
        };
        let failure = key_failure(&exposed);
        assert_eq!(failure.exit, Exit::NotAllowed);
        assert!(failure.to_string().contains("chmod 600 /k"), "{failure}");
        let absent = KeyFileError::Unreadable {
            path: "/k".into(),
            source: io::ErrorKind::NotFound.into(),
        };
        assert_eq!(key_failure(&absent).exit, Exit::NotAllowed);
    }

    #[test]
    fn bad_addresses_and_networks_are_usage_errors() {
        let failure = addresses::<std::net::IpAddr>("--listen", &["here".to_owned()]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(
            failure
                .to_string()
                .starts_with("--listen: \"here\" is no multiaddress"),
            "{failure}"
        );
        assert!(check_network("home-1.a_b").is_ok());
        for name in ["", "a b", "a/b", &"x".repeat(65)] {
            assert_eq!(check_network(name).unwrap_err().exit, Exit::Usage);
        }
    }
}
