//! Input shards, for several machines: shard I of N has the records I, I+N, I+2N, … So appending records to the input
//! does not change the shards of the other records, and neighbouring long records are distributed over all shards.

use crate::error::{Code, Failure};
use crate::sanitize::one_line;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Maximum number of shards.
const COUNT_MAX: u64 = 99_999;

/// A shard of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Numbers")]
pub(crate) struct Shard {
    /// The index, from 1.
    index: u64,
    count: u64,
}

/// Index and count as recorded in a manifest or journal, unchecked.
#[derive(Deserialize)]
struct Numbers {
    index: u64,
    count: u64,
}

impl TryFrom<Numbers> for Shard {
    type Error = String;

    fn try_from(Numbers { index, count }: Numbers) -> Result<Self, String> {
        Self::new(index, count).ok_or_else(|| format!("there is no shard {index} of {count}"))
    }
}

impl Shard {
    /// The whole input.
    pub(crate) const WHOLE: Self = Self { index: 1, count: 1 };

    /// Parses `I/N`, `auto/N` (I from Slurm or Kubernetes) or `auto` (both from Slurm). `env` reads an environment
    /// variable; it is called only for `auto`.
    pub(crate) fn parse(text: &str, env: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let (index, count) = text.split_once('/').map_or((text, None), |(index, count)| (index, Some(count)));
        let fix = "give I/N with I from 1 to N, auto/N, or auto";
        let bad = || Failure::input(Code::Shard, format!("invalid --shard value '{}'", one_line(text)), fix);
        let count = count.map(|count| count.parse().map_err(|_| bad())).transpose()?;
        let (index, count) = match (index, count) {
            ("auto", count) => from_env(count, env)?,
            (index, Some(count)) => (index.parse().map_err(|_| bad())?, count),
            (_, None) => return Err(bad()),
        };
        Self::new(index, count)
            .ok_or_else(|| Failure::input(Code::Shard, format!("there is no shard {index} of {count}"), fix))
    }

    /// Returns `None` if there is no such shard.
    fn new(index: u64, count: u64) -> Option<Self> {
        (count <= COUNT_MAX && (1..=count).contains(&index)).then_some(Self { index, count })
    }

    /// Returns `None` for the whole input.
    pub(crate) fn part(self) -> Option<Self> {
        (self != Self::WHOLE).then_some(self)
    }

    /// The index, from 1.
    pub(crate) fn index(self) -> u64 {
        self.index
    }

    /// The number of shards.
    pub(crate) fn count(self) -> u64 {
        self.count
    }

    /// Returns whether the record `number`, from 1, is in this shard.
    pub(crate) fn has(self, number: u64) -> bool {
        (number - 1) % self.count == self.index - 1
    }

    /// Returns the position of its record `number` within the shard, from 0.
    pub(crate) fn place(self, number: u64) -> u64 {
        (number - 1) / self.count
    }

    /// Returns how many of `total` records are in this shard.
    pub(crate) fn len(self, total: u64) -> u64 {
        (total + self.count - self.index) / self.count
    }

    /// Returns a tag for file names, such as `00003-of-00008`; it sorts by the index.
    pub(crate) fn tag(self) -> String {
        format!("{:05}-of-{:05}", self.index, self.count)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

fn from_env(count: Option<u64>, env: impl Fn(&str) -> Option<String>) -> Result<(u64, u64), Failure> {
    let number = |name: &str| env(name).and_then(|value| value.trim().parse::<u64>().ok());
    let refuse = |what: String, fix: &str| Err(Failure::input(Code::Shard, what, fix));
    if let Some(id) = number("SLURM_ARRAY_TASK_ID") {
        let min = number("SLURM_ARRAY_TASK_MIN").unwrap_or(1);
        let Some(count) = count else {
            // If only some tasks of a Slurm array are submitted again, Slurm reports a smaller array: refuse it.
            let max = number("SLURM_ARRAY_TASK_MAX").unwrap_or(id);
            let all = number("SLURM_ARRAY_TASK_COUNT").unwrap_or(1);
            if min > 1 || !(min..=max).contains(&id) || (max - min).checked_add(1) != Some(all) {
                let what = format!(
                    "the Slurm array has {all} tasks from {min} to {max}: it has gaps or does not start at 0 or 1"
                );
                return refuse(what, "use --array=1-N, or give --shard auto/N");
            }
            return Ok((id - min + 1, all));
        };
        if min == 0 {
            let what = "the Slurm array is numbered from 0".to_owned();
            return refuse(what, "use --array=1-N, or give --shard I/N");
        }
        return Ok((id, count));
    }
    if let Some(id) = number("JOB_COMPLETION_INDEX") {
        let Some(count) = count else {
            let what = "Kubernetes sets the index of this shard, but not the number of shards".to_owned();
            return refuse(what, "give --shard auto/N, where N is the job's completions");
        };
        return Ok((id.saturating_add(1), count));
    }
    let what = "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set".to_owned();
    refuse(what, "give --shard I/N")
}

#[cfg(test)]
mod tests {
    use super::Shard;

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<String, String> {
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Shard::parse(text, env).map(|shard| shard.to_string()).map_err(|failure| failure.what)
    }

    #[test]
    fn every_record_is_in_exactly_one_shard() {
        for (count, total) in [(1, 0), (1, 7), (3, 7), (8, 3), (7, 700)] {
            let shards: Vec<Shard> = (1..=count).map(|index| Shard::new(index, count).unwrap()).collect();
            for number in 1..=total {
                assert_eq!(shards.iter().filter(|shard| shard.has(number)).count(), 1);
            }
            for shard in shards {
                let own: Vec<u64> = (1..=total).filter(|number| shard.has(*number)).collect();
                assert_eq!(own.len() as u64, shard.len(total));
                assert!(own.iter().enumerate().all(|(place, number)| shard.place(*number) == place as u64));
            }
        }
    }

    #[test]
    fn parses_values_and_the_environment() {
        assert_eq!(parse("3/8", &[]).unwrap(), "3/8");
        for bad in ["0/8", "9/8", "3", "3/0", "a/b", "-1/2", "", "/", "1/100000"] {
            assert!(parse(bad, &[]).is_err(), "{bad}");
        }
        let slurm = |id, min, max, count| {
            [
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_MAX", max),
                ("SLURM_ARRAY_TASK_COUNT", count),
            ]
        };
        assert_eq!(parse("auto", &slurm("3", "1", "8", "8")).unwrap(), "3/8");
        assert_eq!(parse("auto", &slurm("3", "0", "7", "8")).unwrap(), "4/8");
        assert_eq!(parse("auto/8", &slurm("3", "3", "3", "1")).unwrap(), "3/8", "one task submitted again");
        assert!(parse("auto", &slurm("3", "3", "3", "1")).is_err());
        assert!(parse("auto", &slurm("5", "1", "9", "3")).is_err());
        assert!(parse("auto/8", &slurm("0", "0", "7", "8")).is_err());
        assert!(parse("auto/8", &slurm("9", "1", "9", "9")).is_err());
        assert_eq!(parse("auto/4", &[("JOB_COMPLETION_INDEX", "0")]).unwrap(), "1/4");
        assert!(parse("auto/4", &[("JOB_COMPLETION_INDEX", "4")]).is_err());
        assert!(parse("auto", &[("JOB_COMPLETION_INDEX", "0")]).is_err());
        assert!(parse("auto", &[]).is_err());
        assert!(parse("auto/4", &[]).is_err());
    }
}
