//! `admin`: creates administrators, directly in the databases.

use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use portcullis_client::secret::Secret;
use portcullis_origin::{
    auth::{AdminWish, Created, create_admin},
    boot::StartError,
    clock::Clock,
    secret_file::read_first_line,
    settings::Settings,
};
use serde_json::json;

use super::{Absent, open_both, output::Output, record_event};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create an administrator, directly in the databases.
    #[command(after_help = "\
Without --password-file the command prompts for the password. It is not an argument, because
a process list would show it. --promote gives the account this password and ends all its
sessions, because the account's password may be that of someone who registered the address
first.

Examples:
  portcullis-origin admin create --email ada@example.com
  pass show portcullis/ada | portcullis-origin admin create --email ada@example.com --password-file -
  portcullis-origin admin create --email ada@example.com --promote
  portcullis-origin admin create --email ada@example.com --promote --keep-password")]
    Create {
        /// E-mail address.
        #[arg(long)]
        email: String,
        /// File whose first line is the password; - for standard input.
        #[arg(long)]
        password_file: Option<PathBuf>,
        /// Make an existing account an administrator, with this password, and end its sessions.
        #[arg(long)]
        promote: bool,
        /// With --promote: keep the account's password and sessions.
        #[arg(long, requires = "promote", conflicts_with = "password_file")]
        keep_password: bool,
        /// Create the databases if they do not exist.
        #[arg(long)]
        init: bool,
        #[command(flatten)]
        settings: Box<Settings>,
    },
}

pub(super) async fn run(command: Command, output: Output) -> Result<(), StartError> {
    let Command::Create { email, password_file, promote, keep_password, init, settings } = command;
    let absent = if init { Absent::Create } else { Absent::Refuse("use --init to create it") };
    // Before the prompt for the password.
    let (auth, users) = open_both(&settings, absent).await?;
    let password = match &password_file {
        _ if keep_password => None,
        Some(file) => Some(read_password(file)?),
        None => Some(ask_password()?),
    };
    let wish = match (promote, &password) {
        (true, password) => AdminWish::Promote(password.as_ref()),
        (false, Some(password)) => AdminWish::Make(password),
        (false, None) => return Err(StartError::Setting("--keep-password requires --promote".to_owned())),
    };
    let created = create_admin(auth.clone(), users, &email, wish, &Clock::default()).await;
    let event_type = if promote { "admin.promote" } else { "admin.create" };
    let done = match &created {
        Ok(Created::New(id) | Created::Promoted(id)) => Ok(Some(id.to_string())),
        Err(_) => Err("refused"),
    };
    record_event(&auth, event_type, "admin create", done).await;
    match created.map_err(StartError::Other)? {
        Created::New(id) => {
            output.print(&format!("created administrator {id}"), &json!({ "id": id, "promoted": false }))
        }
        Created::Promoted(id) => {
            let rest = if keep_password {
                "its password is unchanged"
            } else {
                "it has the given password, and all its sessions are ended"
            };
            output.print(
                &format!("user {id} is an administrator now; {rest}"),
                &json!({ "id": id, "promoted": true, "password_kept": keep_password }),
            )
        }
    }
}

fn read_password(file: &Path) -> Result<Secret, StartError> {
    if file.as_os_str() != "-" {
        return Ok(read_first_line("--password-file", file)?);
    }
    let mut text = String::new();
    // A password has at most 128 characters.
    std::io::stdin()
        .take(4096)
        .read_to_string(&mut text)
        .map_err(|error| StartError::Setting(format!("the password cannot be read from standard input: {error}")))?;
    Ok(Secret::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// Prompts twice, because the terminal does not show the input.
fn ask_password() -> Result<Secret, StartError> {
    if !std::io::stdin().is_terminal() {
        return Err(StartError::Setting(
            "there is no terminal for the password prompt; use --password-file FILE, or - for standard input"
                .to_owned(),
        ));
    }
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt)
            .map_err(|error| StartError::Other(format!("the password cannot be read from the terminal: {error}")))
    };
    let password = ask("Password: ")?;
    if ask("Repeat password: ")? != password {
        return Err(StartError::Other("the two passwords differ".to_owned()));
    }
    Ok(Secret::new(password))
}
