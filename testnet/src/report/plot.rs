//! A plot as SVG, drawn by hand: axes with units, curves or bars, a legend. Its colours are the page's.

use std::fmt::Write;

/// Units of the drawing: small enough that its text is legible on a telephone.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
/// Colours that the page has; curves beyond them are dashed.
pub(super) const COLOURS: usize = 8;
/// Points of a plot up to which each is marked, and tells its values; more would hide the lines.
const MARKED_MAX: usize = 60;

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Style {
    /// Points joined by lines.
    Lines,
    /// A bar of this width around each point of the first curve.
    Bars {
        /// In units of x.
        width: f64,
    },
}

/// Points under one name.
#[derive(Clone, Debug, Default)]
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// The least and the most of all seeds at each point; empty for one seed.
    pub(super) band: Vec<(f64, f64, f64)>,
    /// Whether it is a bound rather than a measurement.
    pub(super) is_bound: bool,
}

/// A plot.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    /// Values of y that the axis shows at least.
    pub(super) y_shown: Option<(f64, f64)>,
    pub(super) style: Style,
    pub(super) curves: Vec<Curve>,
    /// Places of x that are pointed out, by name.
    pub(super) marks: Vec<(f64, String)>,
    pub(super) note: Option<String>,
}

impl Plot {
    /// Draws it with its title and legend.
    pub(super) fn figure(&self) -> String {
        let mut html = format!(
            "<figure>\n<figcaption>{}</figcaption>\n{}",
            escape(&self.title),
            self.svg()
        );
        if self.curves.len() > 1 {
            html += "<ul class=\"legend\">";
            for (index, curve) in self.curves.iter().enumerate() {
                let class = class(index, curve);
                let name = escape(&curve.name);
                let _ = write!(html, "<li><i class=\"{class}\"></i>{name}</li>");
            }
            html += "</ul>\n";
        }
        if let Some(note) = &self.note {
            let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(note));
        }
        html + "</figure>\n"
    }

    fn svg(&self) -> String {
        let frame = Frame::of(self);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}: {} over {}\">\n",
            escape(&self.title),
            escape(self.y),
            escape(self.x)
        );
        frame.axes(self, &mut svg);
        let points: usize = self.curves.iter().map(|curve| curve.points.len()).sum();
        let is_marked = points <= MARKED_MAX;
        for (index, curve) in self.curves.iter().enumerate() {
            match self.style {
                Style::Bars { width } if index == 0 => frame.bars(curve, width, &mut svg),
                _ => frame.lines(curve, index, is_marked, &mut svg),
            }
        }
        for (index, (x, name)) in self.marks.iter().enumerate() {
            frame.mark(*x, name, index, &mut svg);
        }
        svg + "</svg>\n"
    }
}

/// A scale from values to places in the drawing.
struct Scale {
    from: f64,
    to: f64,
    step: f64,
}

impl Scale {
    /// Makes a scale with round steps that reaches over all values.
    fn over(from: f64, to: f64, steps: f64) -> Self {
        let span = if to > from {
            to - from
        } else {
            to.abs().max(1.0)
        };
        let step = round_step(span / steps);
        let to = if to > from { to } else { from + span };
        Self {
            from: (from / step + 1e-9).floor() * step,
            to: (to / step - 1e-9).ceil() * step,
            step,
        }
    }

    fn share(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.to - self.from) / self.step + 1e-9).floor() as usize;
        (0..=count).map(|index| self.from + self.step * index as f64)
    }

    fn label(&self, value: f64) -> String {
        let decimals = (-self.step.log10().floor()).clamp(0.0, 6.0) as usize;
        // No minus before a zero.
        let value = if value.abs() < self.step / 2.0 {
            0.0
        } else {
            value
        };
        if value.abs() >= 1_000.0 {
            super::sim::number(value)
        } else {
            format!("{value:.decimals$}")
        }
    }
}

/// Returns the next step of 1, 2, 5, 10, …
pub(super) fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(1e-9).log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors
        .into_iter()
        .find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}

struct Frame {
    x: Scale,
    y: Scale,
}

impl Frame {
    fn of(plot: &Plot) -> Self {
        let points = || plot.curves.iter().flat_map(|curve| &curve.points);
        let bands = || plot.curves.iter().flat_map(|curve| &curve.band);
        let half = match plot.style {
            Style::Bars { width } => width / 2.0,
            Style::Lines => 0.0,
        };
        let xs = points().map(|(x, _)| *x);
        let (x_from, x_to) = least_and_most(xs.flat_map(|x| [x - half, x + half]));
        let ys = points().map(|(_, y)| *y);
        let ys = ys.chain(bands().flat_map(|(_, low, high)| [*low, *high]));
        let shown = plot.y_shown.map(|(from, to)| [from, to]);
        let (y_from, y_to) = least_and_most(ys.chain(shown.into_iter().flatten()));
        // Half of the height would be empty otherwise.
        let y_from = if y_from > 0.0 && y_from < y_to * 0.5 {
            0.0
        } else {
            y_from
        };
        let mut x = Scale::over(x_from, x_to, 6.0);
        if half > 0.0 {
            // Bars stand on their values, not between round numbers.
            (x.from, x.to) = (x_from, x_to);
        }
        let y = Scale::over(y_from, y_to, 5.0);
        Self { x, y }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn axes(&self, plot: &Plot, svg: &mut String) {
        let (right, base) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in self.y.ticks() {
            let y = self.y(tick);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 7.0,
                y + 4.0,
                self.y.label(tick)
            );
        }
        // Ticks of bars begin at a round number within.
        let first = (self.x.from / self.x.step - 1e-9).ceil() * self.x.step;
        let ticks = Scale {
            from: first,
            ..self.x
        };
        for tick in ticks.ticks() {
            let x = self.x(tick);
            let _ = writeln!(
                svg,
                "<path class=\"tick\" d=\"M{x:.1} {base}v4\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                base + 17.0,
                self.x.label(tick)
            );
        }
        let (middle_x, middle_y) = ((LEFT + right) / 2.0, (TOP + base) / 2.0);
        let _ = write!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {base}H{right}\"/>\n\
             <text class=\"label\" x=\"{middle_x}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text class=\"label\" transform=\"translate(13 {middle_y}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
            HEIGHT - 7.0,
            escape(plot.x),
            escape(plot.y)
        );
    }

    fn bars(&self, curve: &Curve, width: f64, svg: &mut String) {
        let base = self.y(0.0);
        for (x, y) in &curve.points {
            let (left, right) = (self.x(x - width / 2.0), self.x(x + width / 2.0));
            let gap = ((right - left) * 0.12).min(3.0);
            // A bar that is there is seen.
            let top = if *y > 0.0 {
                self.y(*y).min(base - 1.0)
            } else {
                base
            };
            let _ = writeln!(
                svg,
                "<rect class=\"c0\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
                left + gap / 2.0,
                right - left - gap,
                base - top,
                values(*x, *y)
            );
        }
    }

    fn lines(&self, curve: &Curve, index: usize, is_marked: bool, svg: &mut String) {
        let class = class(index, curve);
        if curve.band.len() > 1 {
            let highs = curve.band.iter().map(|(x, _, high)| (*x, *high));
            let lows = curve.band.iter().rev().map(|(x, low, _)| (*x, *low));
            let around = self.path(highs.chain(lows));
            let _ = writeln!(svg, "<path class=\"band {class}\" d=\"{around}Z\"/>");
        }
        let path = self.path(curve.points.iter().copied());
        let _ = writeln!(svg, "<path class=\"line {class}\" d=\"{path}\"/>");
        if (is_marked || curve.points.len() == 1) && !curve.is_bound {
            for (x, y) in &curve.points {
                let (cx, cy) = (self.x(*x), self.y(*y));
                let _ = writeln!(
                    svg,
                    "<circle class=\"{class}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\"><title>{}</title></circle>",
                    values(*x, *y)
                );
            }
        }
    }

    fn path(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        let mut path = String::new();
        for (x, y) in points {
            let letter = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", self.x(x), self.y(y));
        }
        path
    }

    fn mark(&self, x: f64, name: &str, index: usize, svg: &mut String) {
        let x = self.x(x);
        // Names stand below each other, on the side that has room.
        let y = TOP + 10.0 + 15.0 * index as f64;
        let (at, anchor) = if x > WIDTH * 0.6 {
            (x - 5.0, "end")
        } else {
            (x + 5.0, "start")
        };
        let _ = writeln!(
            svg,
            "<path class=\"mark\" d=\"M{x:.1} {TOP}V{:.1}\"/>\
             <text class=\"mark\" x=\"{at:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            HEIGHT - BOTTOM,
            escape(name)
        );
    }
}

fn class(index: usize, curve: &Curve) -> String {
    let dashed = if curve.is_bound || index >= COLOURS {
        " dashed"
    } else {
        ""
    };
    format!("c{}{dashed}", index % COLOURS)
}

fn values(x: f64, y: f64) -> String {
    format!("{}: {}", super::sim::number(x), super::sim::number(y))
}

fn least_and_most(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let (from, to) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(from, to), value| {
        (from.min(value), to.max(value))
    });
    if from <= to { (from, to) } else { (0.0, 1.0) }
}

/// Writes text so that it is text in HTML and SVG, in attributes too.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            // What no document may hold, not even as a reference.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>) -> Plot {
        Plot {
            title: "<b>\"T\" & 'U'</b>".to_owned(),
            x: "x (s)",
            y: "y",
            y_shown: None,
            style: Style::Lines,
            curves: vec![
                Curve {
                    name: "</li><script>".to_owned(),
                    points,
                    ..Curve::default()
                },
                Curve::default(),
            ],
            marks: vec![(1.0, "<p50>".to_owned())],
            note: Some("a < b".to_owned()),
        }
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(
            escape("<a href=\"x\">&'\u{0}</a>"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\u{fffd}&lt;/a&gt;"
        );
        let figure = plot(vec![(0.0, 1.0), (2.0, 3.0)]).figure();
        for wrong in ["<b>", "<script>", "<p50>", "a < b", "\"T\""] {
            assert!(!figure.contains(wrong), "{wrong} in {figure}");
        }
        assert!(figure.contains("&lt;/li&gt;&lt;script&gt;"), "{figure}");
    }

    #[test]
    fn odd_values_never_leave_the_drawing() {
        for points in [
            vec![],
            vec![(5.0, 5.0)],
            vec![(0.0, 0.0), (0.0, 0.0)],
            vec![(0.0, f64::NAN), (f64::INFINITY, 1.0), (1.0, -3.0)],
            vec![(1e12, 1e-12), (2e12, 1e9)],
        ] {
            for style in [Style::Lines, Style::Bars { width: 1.0 }] {
                let plot = Plot {
                    style,
                    ..plot(points.clone())
                };
                let svg = plot.svg();
                assert!(!svg.contains("inf"), "{points:?}: {svg}");
                assert!(svg.len() < 20_000, "{points:?}: {} bytes", svg.len());
            }
        }
    }

    #[test]
    fn steps_are_round() {
        for (step, rounded) in [
            (0.9, 1.0),
            (1.3, 2.0),
            (3.0, 5.0),
            (70.0, 100.0),
            (0.021, 0.05),
        ] {
            assert!((round_step(step) - rounded).abs() < 1e-9, "{step}");
        }
        let scale = Scale::over(0.0, 0.93, 5.0);
        let labels: Vec<String> = scale.ticks().map(|tick| scale.label(tick)).collect();
        assert_eq!(labels, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
    }
}
