//! The systemd units: what they start exists and takes its flags, and what they give is where the configuration looks.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixDatagram},
    process::Command,
    time::Duration,
};

use toml::Table;

use crate::{
    configs,
    files::{deploy, read, table},
    service::nearcast,
};

/// Unit, program's service, configuration.
const UNITS: [(&str, &str, &str); 2] = [
    ("nearcast-node.service", "node", "config/node.toml"),
    ("nearcast-predictor.service", "predictor", "config/predictor.toml"),
];

/// The settings of a unit.
fn settings(unit: &str) -> Vec<(String, String)> {
    let text = read(&format!("systemd/{unit}"));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn setting(unit: &str, key: &str) -> String {
    let found = settings(unit).into_iter().find(|(name, _)| name == key);
    found.unwrap_or_else(|| panic!("{unit} has no {key}")).1
}

/// The arguments of a command line for the CLI: the lean node's are those of `nearcast node`.
fn arguments(command: &str) -> Vec<String> {
    let mut words = command.split_whitespace();
    let leading = match words.next() {
        Some("/usr/local/bin/nearcast-node") => Some("node"),
        Some("/usr/local/bin/nearcast") => None,
        other => panic!("`{command}` starts {other:?}"),
    };
    leading.into_iter().chain(words).map(str::to_owned).collect()
}

#[test]
fn command_lines_are_ones_that_the_program_takes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (unit, service, file) in UNITS {
        for key in ["ExecStartPre", "ExecStart"] {
            let mut given = arguments(&setting(unit, key));
            let config = format!("/etc/nearcast/{service}.toml");
            let place = given.iter().position(|word| *word == config).unwrap_or_else(|| panic!("{unit}: {config}"));
            let checked = configs::check(folder.path(), service, &read(file));
            assert!(checked.status.success(), "{file}");
            given[place] = folder.path().join("checked.toml").display().to_string();
            assert_eq!(given.iter().any(|word| word == "--check-config"), key == "ExecStartPre");
            given.retain(|word| word != "--check-config");
            given.push("--check-config".to_owned());
            let given: Vec<&str> = given.iter().map(String::as_str).collect();
            let output = nearcast(&given).output().expect("it runs");
            assert!(output.status.success(), "{unit}, {key}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn what_a_unit_gives_is_where_its_configuration_looks() {
    for (unit, _, file) in UNITS {
        let config = table(file);
        let text = |table: &Table, key: &str| table.get(key).and_then(|value| value.as_str()).map(str::to_owned);
        let state = format!("/var/lib/{}", setting(unit, "StateDirectory"));
        assert_eq!(text(&config, "data_dir").as_deref(), Some(state.as_str()), "{unit}");
        let credential = setting(unit, "LoadCredential");
        let (id, source) = credential.split_once(':').expect("ID:PATH");
        let token = text(&config, "admin_token_file").or_else(|| text(config["front"].as_table()?, "admin_token_file"));
        assert_eq!(token, Some(format!("/run/credentials/{unit}/{id}")), "{unit}");
        assert!(source.starts_with("/etc/nearcast/"), "{unit}: {source}");
    }
    let files: i64 = setting("nearcast-node.service", "LimitNOFILE").parse().expect("a number");
    let connections = table("config/node.toml")["front"]["connections_max"].as_integer().expect("a number");
    assert!(files >= 2 * connections, "{files} open files for {connections} connections");
}

/// As distributions run them; it knows every setting and which of them contradict each other.
#[test]
fn systemd_takes_the_units_and_finds_them_locked() {
    if !Command::new("systemd-analyze").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: no systemd-analyze; install Debian's `systemd`");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    for program in ["nearcast", "nearcast-node"] {
        symlink(env!("CARGO_BIN_EXE_nearcast"), folder.path().join(program)).expect("a link");
    }
    for (unit, ..) in UNITS {
        // The programs are not installed where tests run.
        let text = fs::read_to_string(deploy("systemd").join(unit)).expect("readable");
        let path = folder.path().join(unit);
        fs::write(&path, text.replace("/usr/local/bin", &folder.path().display().to_string())).expect("writable");
        for check in [&["verify"][..], &["security", "--offline=true", "--threshold=20"]] {
            let output = Command::new("systemd-analyze").args(check).arg(&path).output().expect("it runs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && !said.contains(unit), "{unit}, {check:?}: {said}");
        }
    }
}

/// `Type=notify`: systemd takes the predictor for started when it is ready, as `/readyz` says it, and hears of its end.
#[test]
fn the_predictor_tells_systemd_when_it_is_ready_and_when_it_stops() {
    assert_eq!(setting("nearcast-predictor.service", "Type"), "notify");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("predictor.toml");
    let text = "listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\ndata_dir = \"d\"\nregistry = \"models\"\n";
    fs::write(&config, text).expect("writable");
    let systemd = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
    systemd.set_read_timeout(Some(Duration::from_secs(60))).expect("it can be set");
    let heard = || {
        let mut buffer = [0; 256];
        let length = systemd.recv(&mut buffer).expect("it is told in time");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    let mut child = nearcast(&["predictor", "-c", config.to_str().expect("UTF-8")])
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .spawn()
        .expect("it starts");
    assert_eq!(heard(), "READY=1");
    let second = nearcast(&["predictor", "-c", config.to_str().expect("UTF-8")]).output().expect("it runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("another predictor uses"), "{said}");
    assert!(Command::new("kill").arg(child.id().to_string()).status().expect("kill is there").success());
    assert_eq!(heard(), "STOPPING=1");
    assert!(child.wait().expect("it ends").success());
}
