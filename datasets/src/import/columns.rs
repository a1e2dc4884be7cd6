//! Which field of a source holds what, chosen by the user or found by well-known names.

use std::{fmt, str::FromStr};

/// What a field of a source can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// When the request happened; needed.
    Timestamp,
    /// The key asked for; needed.
    Key,
    /// Who asked, in the clear.
    Client,
    /// The client's region.
    Region,
    /// Bytes of the whole object.
    Size,
    /// Bytes of the response's body.
    Bytes,
    /// The response's status.
    Status,
    /// The request's method.
    Method,
    /// First byte asked for.
    RangeStart,
    /// One past the last byte asked for.
    RangeEnd,
}

impl Column {
    /// Every column.
    pub const ALL: [Self; 10] = [
        Self::Timestamp,
        Self::Key,
        Self::Client,
        Self::Region,
        Self::Size,
        Self::Bytes,
        Self::Status,
        Self::Method,
        Self::RangeStart,
        Self::RangeEnd,
    ];

    /// The name in a `--columns` list.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timestamp => "timestamp",
            Self::Key => "key",
            Self::Client => "client",
            Self::Region => "region",
            Self::Size => "size",
            Self::Bytes => "bytes",
            Self::Status => "status",
            Self::Method => "method",
            Self::RangeStart => "range_start",
            Self::RangeEnd => "range_end",
        }
    }

    /// Names under which servers and data sets are known to write it, most telling first.
    const fn usual_names(self) -> &'static [&'static str] {
        match self {
            Self::Timestamp => &[
                "timestamp",
                "time",
                "ts",
                "@timestamp",
                "time_iso8601",
                "msec",
                "EdgeStartTimestamp",
                "start_time",
                "datetime",
                "date_time",
                "op_time",
                "time_local",
            ],
            Self::Key => &[
                "key",
                "request_uri",
                "uri",
                "url",
                "path",
                "ClientRequestURI",
                "request.uri",
                "cacheKey",
                "obj_id",
                "object",
                "object_id",
                "item_id",
                "cs-uri-stem",
            ],
            Self::Client => &[
                "client",
                "remote_addr",
                "client_ip",
                "ClientIP",
                "request.client_ip",
                "request.remote_ip",
                "c-ip",
                "client_id",
                "ip",
                "user_id",
                "session_id",
            ],
            Self::Region => &["region", "EdgeColoCode", "geo_country", "ClientCountry", "country", "x-edge-location"],
            Self::Size => &["size", "object_size", "objectSize", "obj_size"],
            Self::Bytes => &[
                "bytes",
                "body_bytes_sent",
                "bytes_sent",
                "EdgeResponseBodyBytes",
                "response_body_size",
                "responseSize",
                "sc-bytes",
            ],
            Self::Status => &["status", "EdgeResponseStatus", "response_status", "sc-status"],
            Self::Method => &["method", "request_method", "ClientRequestMethod", "request.method", "cs-method"],
            Self::RangeStart => &["range_start", "rangeStart"],
            Self::RangeEnd => &["range_end"],
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A map from columns to the source's own field names: header names, 1-based numbers, or dotted JSON paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnMap(Vec<(Column, String)>);

impl ColumnMap {
    /// The map of the well-known names that `has` says are present.
    pub(crate) fn guess(has: impl Fn(&str) -> bool) -> Self {
        let found = Column::ALL.into_iter().filter_map(|column| {
            let name = column.usual_names().iter().find(|name| has(name))?;
            Some((column, (*name).to_owned()))
        });
        let mut map = Self(found.collect());
        // Beside a status, `size` is what a server calls the bytes of its response.
        if map.field(Column::Status).is_some() && map.field(Column::Bytes).is_none() {
            let plain_size = map.0.iter_mut().find(|(column, name)| *column == Column::Size && name == "size");
            plain_size.into_iter().for_each(|(column, _)| *column = Column::Bytes);
        }
        map
    }

    /// The source's name of a column.
    pub fn field(&self, column: Column) -> Option<&str> {
        self.0.iter().find(|(mapped, _)| *mapped == column).map(|(_, field)| field.as_str())
    }

    /// Whether no column is mapped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every field is a 1-based number.
    pub(crate) fn is_numbered(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, field)| field.parse::<usize>().is_ok_and(|number| number > 0))
    }

    /// The first column that every map needs and this one lacks.
    pub(crate) fn missing(&self) -> Option<Column> {
        [Column::Timestamp, Column::Key].into_iter().find(|column| self.field(*column).is_none())
    }
}

impl fmt::Display for ColumnMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (column, field)) in self.0.iter().enumerate() {
            write!(f, "{}{column}={field}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for ColumnMap {
    type Err = String;

    /// Reads `timestamp=time,client=ip,key=url`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut map = Self::default();
        for part in text.split(',') {
            let (name, field) =
                part.split_once('=').ok_or_else(|| format!("\"{part}\" is not of the form column=field"))?;
            let (name, field) = (name.trim(), field.trim());
            let names = || Column::ALL.map(Column::as_str).join(", ");
            let column = Column::ALL.into_iter().find(|column| column.as_str() == name);
            let column = column.ok_or_else(|| format!("\"{name}\" is no column; columns are {}", names()))?;
            if field.is_empty() {
                return Err(format!("column {column} names no field"));
            }
            if map.field(column).is_some() {
                return Err(format!("column {column} is named twice"));
            }
            map.0.push((column, field.to_owned()));
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_read_back_what_they_print() {
        let map: ColumnMap = "timestamp=time, client=ip,key=request.uri".parse().unwrap();
        assert_eq!(map.to_string(), "timestamp=time,client=ip,key=request.uri");
        assert_eq!((map.field(Column::Client), map.field(Column::Size)), (Some("ip"), None));
        assert_eq!((map.missing(), map.is_numbered()), (None, false));
        assert!("timestamp=1,key=2".parse::<ColumnMap>().unwrap().is_numbered());
    }

    #[test]
    fn wrong_maps_say_what_is_wrong() {
        for (text, problem) in [
            ("timestamp", "not of the form"),
            ("when=1", "columns are timestamp"),
            ("key=", "names no field"),
            ("key=a,key=b", "named twice"),
        ] {
            assert!(text.parse::<ColumnMap>().unwrap_err().contains(problem), "{text}");
        }
    }

    #[test]
    fn guesses_well_known_names() {
        let names = ["ip", "request_uri", "ts", "other"];
        let map = ColumnMap::guess(|name| names.contains(&name));
        assert_eq!(map.to_string(), "timestamp=ts,key=request_uri,client=ip");
        assert_eq!(ColumnMap::guess(|name| ["size", "status"].contains(&name)).to_string(), "bytes=size,status=status");
        assert_eq!(ColumnMap::guess(|name| name == "size").to_string(), "size=size");
    }
}
