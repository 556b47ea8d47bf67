//! `admin`: administrators, made where the databases are.

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

use super::{Absent, leave_event, open_both, output::Output};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an administrator. To be run where the databases are.
    #[command(after_help = "\
Without --password-file the password is asked for, and not shown. It is no argument: a
process list would show it. --promote gives the account that password and ends all its
sessions: whoever registered the address first chose the one that it had.

Examples:
  portcullis-origin admin create --email ada@example.com
  pass show portcullis/ada | portcullis-origin admin create --email ada@example.com --password-file -
  portcullis-origin admin create --email ada@example.com --promote
  portcullis-origin admin create --email ada@example.com --promote --keep-password")]
    Create {
        /// E-mail address.
        #[arg(long)]
        email: String,
        /// File whose first line is the password; - reads standard input.
        #[arg(long)]
        password_file: Option<PathBuf>,
        /// Make an existing account an administrator, with this password, and end its sessions.
        #[arg(long)]
        promote: bool,
        /// With --promote: leave the account's password and sessions as they are.
        #[arg(long, requires = "promote", conflicts_with = "password_file")]
        keep_password: bool,
        /// Make the databases if there are none.
        #[arg(long)]
        init: bool,
        #[command(flatten)]
        settings: Box<Settings>,
    },
}

pub(super) async fn run(command: Command, output: Output) -> Result<(), StartError> {
    let Command::Create { email, password_file, promote, keep_password, init, settings } = command;
    let absent = if init { Absent::Make } else { Absent::Refuse("give --init to make it") };
    // Before anybody is asked for a password.
    let (auth, users) = open_both(&settings, absent).await?;
    let password = match &password_file {
        _ if keep_password => None,
        Some(file) => Some(read_password(file)?),
        None => Some(ask_password()?),
    };
    let wish = match (promote, &password) {
        (true, password) => AdminWish::Promote(password.as_ref()),
        (false, Some(password)) => AdminWish::Make(password),
        (false, None) => return Err(StartError::Setting("--keep-password is for --promote alone".to_owned())),
    };
    let created = create_admin(auth.clone(), users, &email, wish, &Clock::default()).await;
    let event_type = if promote { "admin.promote" } else { "admin.create" };
    let done = match &created {
        Ok(Created::New(id) | Created::Promoted(id)) => Ok(Some(id.to_string())),
        Err(_) => Err("refused"),
    };
    leave_event(&auth, event_type, "admin create", done).await;
    match created.map_err(StartError::Other)? {
        Created::New(id) => {
            output.say(&format!("made administrator {id}"), &json!({ "id": id, "promoted": false }));
        }
        Created::Promoted(id) => {
            let rest = if keep_password {
                "the password is what it was"
            } else {
                "the password is the one given, and all sessions are ended"
            };
            output.say(
                &format!("user {id} is an administrator now; {rest}"),
                &json!({ "id": id, "promoted": true, "password_kept": keep_password }),
            );
        }
    }
    Ok(())
}

fn read_password(file: &Path) -> Result<Secret, StartError> {
    if file.as_os_str() != "-" {
        return Ok(read_first_line("--password-file", file)?);
    }
    let mut text = String::new();
    // A password has 128 characters at most; what is longer is another file.
    std::io::stdin()
        .take(4096)
        .read_to_string(&mut text)
        .map_err(|error| StartError::Setting(format!("the password cannot be read from standard input: {error}")))?;
    Ok(Secret::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// Asks at the terminal, twice, because nobody sees what they type.
fn ask_password() -> Result<Secret, StartError> {
    if !std::io::stdin().is_terminal() {
        return Err(StartError::Setting(
            "there is no terminal to ask for the password at; give --password-file FILE, or - for standard input"
                .to_owned(),
        ));
    }
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt)
            .map_err(|error| StartError::Other(format!("the password cannot be read from the terminal: {error}")))
    };
    let password = ask("Password: ")?;
    if ask("Once more: ")? != password {
        return Err(StartError::Other("the two passwords differ".to_owned()));
    }
    Ok(Secret::new(password))
}
