//! What is wrong with a policy, and where.

use std::fmt;

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A key of a table.
    Key(String),
    /// An entry of a list.
    Index(usize),
}

/// The way to a value of a document: `routes[3].access`. Empty for the document itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Path(pub(crate) Vec<Step>);

/// A [`Path`] during a check: costs nothing until something is reported, which matters to the
/// start of a Worker with thousands of routes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    Document,
    Key(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl<'a> Place<'a> {
    pub(crate) fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }

    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }

    pub(crate) fn last_key(&self) -> &'a str {
        if let Self::Key(_, key) = *self { key } else { "" }
    }

    pub(crate) fn path(&self) -> Path {
        let (mut path, step) = match *self {
            Self::Document => return Path::default(),
            Self::Key(parent, key) => (parent.path(), Step::Key(key.to_owned())),
            Self::Index(parent, index) => (parent.path(), Step::Index(index)),
        };
        path.0.push(step);
        path
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(number) => write!(formatter, "[{number}]")?,
                Step::Key(key) if index == 0 => formatter.write_str(key)?,
                Step::Key(key) => write!(formatter, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// A value that a policy must not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Where it is.
    pub(crate) path: Path,
    /// What is wrong and what to write instead, in one sentence.
    pub(crate) message: String,
    /// An earlier place that it contradicts.
    pub(crate) first: Option<Path>,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.message)?;
        self.first.as_ref().map_or(Ok(()), |first| write!(formatter, " (the first is {first})"))
    }
}

/// A mistake in a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong and what to write instead, in one sentence.
    pub message: String,
}

impl fmt::Display for Mistake {
    /// Writes `line:column: message`, to follow the name of the file and a colon.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.line, self.column, self.message)
    }
}
