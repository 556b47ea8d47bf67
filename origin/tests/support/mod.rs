//! What tests have in common: the services, their databases, a gateway, and the program as a command.

mod admin;
mod app;
mod command;
mod databases;
mod gateway;
mod keys;
mod processes;
mod push_receiver;
mod wait;

pub(crate) use admin::{ADMIN, AdminClient, PERMISSIONS, ROLES, USER, logout, make_admin};
pub(crate) use app::{
    ASSERTION_SECRET, AUTH_ONLY, AUTH_SECRET, App, BOTH, PASSWORD, Person, Reply, USERS_ONLY, USERS_SECRET, claims,
    secrets, settings, status_and_code, write_private,
};
pub(crate) use command::{Serving, program, run};
pub(crate) use databases::{Databases, Service};
pub(crate) use gateway::start_gateway;
pub(crate) use keys::{ROTATE, jwks, kids};
pub(crate) use processes::{Deployment, MASTER, port, until_ready};
pub(crate) use push_receiver::PushReceiver;
pub(crate) use wait::{PATIENCE, until};
