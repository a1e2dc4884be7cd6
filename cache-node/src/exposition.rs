//! How metrics are written: OpenMetrics for who asks for it, the older Prometheus text format for everybody else.

use std::fmt::Write;

use http::{HeaderMap, header};

/// The type of OpenMetrics documents.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The type of documents in the Prometheus text format.
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether who asks understands OpenMetrics.
pub fn wants_openmetrics(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter();
    accepted.any(|value| value.to_str().is_ok_and(|types| types.contains("application/openmetrics-text")))
}

/// The same in the Prometheus text format. It differs in that a counter's name ends in `_total` everywhere, in that what
/// is an info is a gauge whose name ends in `_info`, and in that there are no units and no end.
pub fn prometheus(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let lines: Vec<&str> = openmetrics.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if line.starts_with("# UNIT ") || *line == "# EOF" {
            continue;
        }
        let mut words = line.splitn(4, ' ');
        let (Some("#"), Some(kind @ ("HELP" | "TYPE")), Some(name), rest) =
            (words.next(), words.next(), words.next(), words.next().unwrap_or_default())
        else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        // HELP comes before TYPE, with a unit between them at most.
        let is_a = |what: &str| {
            let said = format!("# TYPE {name} {what}");
            lines[number..].iter().take(3).any(|line| *line == said)
        };
        let suffix = if is_a("counter") {
            "_total"
        } else if is_a("info") {
            "_info"
        } else {
            ""
        };
        let rest = if kind == "TYPE" && rest == "info" { "gauge" } else { rest };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# {kind} {name}{suffix} {rest}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_alike_and_the_rest_stays() {
        let openmetrics = "# HELP n_a A.\n# TYPE n_a counter\nn_a_total{x=\"y\"} 1\n# HELP n_b B.\n# TYPE n_b gauge\nn_b 2\n\
                           # HELP n_c C.\n# UNIT n_c seconds\n# TYPE n_c counter\nn_c_total 3\n\
                           # HELP n_d D.\n# TYPE n_d info\nn_d_info{x=\"y\"} 1\n# EOF\n";
        let expected = "# HELP n_a_total A.\n# TYPE n_a_total counter\nn_a_total{x=\"y\"} 1\n# HELP n_b B.\n\
                        # TYPE n_b gauge\nn_b 2\n# HELP n_c_total C.\n# TYPE n_c_total counter\nn_c_total 3\n\
                        # HELP n_d_info D.\n# TYPE n_d_info gauge\nn_d_info{x=\"y\"} 1\n";
        assert_eq!(prometheus(openmetrics), expected);
    }
}
