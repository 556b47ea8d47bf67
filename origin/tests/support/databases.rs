//! The databases of a test: SQLite files, or schemas of a PostgreSQL server.

use tempfile::TempDir;

/// A service, with the name of its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Auth,
    Users,
}

impl Service {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Users => "users",
        }
    }
}

/// The databases of both services: files in a directory or, if the environment names a server, schemas
/// of their own. Every test runs on both.
pub(crate) struct Databases {
    pub(crate) folder: TempDir,
    server: Option<String>,
    name: String,
}

/// URL of a PostgreSQL database in which tests may create schemas.
const SERVER: &str = "TEST_POSTGRES_URL";

impl Databases {
    pub(crate) async fn make() -> Self {
        let mut name = [0; 8];
        aws_lc_rs::rand::fill(&mut name).unwrap();
        let name = name.map(|byte| format!("{byte:02x}")).concat();
        let databases = Self { folder: tempfile::tempdir().unwrap(), server: std::env::var(SERVER).ok(), name };
        if let Some(server) = &databases.server {
            sqlx::any::install_default_drivers();
            let pool = sqlx::AnyPool::connect(server).await.unwrap();
            for service in [Service::Auth, Service::Users] {
                let text = format!("CREATE SCHEMA {}_{}", service.name(), databases.name);
                sqlx::query(sqlx::AssertSqlSafe(text)).execute(&pool).await.unwrap();
            }
            pool.close().await;
        }
        databases
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.server.is_none()
    }

    pub(crate) fn url(&self, service: Service) -> String {
        let name = service.name();
        match &self.server {
            Some(server) => format!("{server}?options[search_path]={name}_{}", self.name),
            None => format!("sqlite://{}/{name}.db", self.folder.path().display()),
        }
    }

    /// Returns PostgreSQL's URL and the service's schema.
    pub(crate) fn schema(&self, service: Service) -> Option<(String, String)> {
        self.server.clone().map(|server| (server, format!("{}_{}", service.name(), self.name)))
    }

    /// Opens a database directly.
    pub(crate) async fn open(&self, service: Service) -> sqlx::AnyPool {
        sqlx::any::install_default_drivers();
        sqlx::AnyPool::connect(&self.url(service)).await.unwrap()
    }

    /// Runs a statement.
    pub(crate) async fn run(&self, service: Service, text: &'static str) {
        let pool = self.open(service).await;
        sqlx::query(text).execute(&pool).await.unwrap();
        pool.close().await;
    }

    /// Returns everything that is stored, as text.
    pub(crate) async fn dump(&self) -> String {
        let mut text = String::new();
        if self.is_sqlite() {
            for entry in std::fs::read_dir(self.folder.path()).unwrap() {
                text.push_str(&String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()));
            }
            return text;
        }
        for service in [Service::Auth, Service::Users] {
            let pool = self.open(service).await;
            let query = "SELECT schema_to_xml(current_schema(), true, false, '')::text";
            let part: String = sqlx::query_scalar(query).fetch_one(&pool).await.unwrap();
            text.push_str(&part);
            pool.close().await;
        }
        text
    }
}
