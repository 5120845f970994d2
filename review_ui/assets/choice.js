/** Verdicts in words, and the usual choice: what the cheapest key decides about a sample. */

export const VERDICTS = {
  keep: "kept",
  relabel: "relabelled",
  both: "both",
  exclude: "excluded",
  unsure: "unsure",
};

/** The given label is kept; a decision that is asked for a second look stays as it is. */
export function usualChoice(sample) {
  if (sample.is_second_look) return { verdict: sample.verdict, label: sample.reviewed_label };
  return { verdict: "keep", label: sample.given_label };
}

/** Whether a choice comes to the usual one; the given label as a label means keep. */
export function isUsual(choice, sample) {
  const [one, other] = [choice, usualChoice(sample)].map((each) => settled(each, sample));
  return one.verdict === other.verdict && one.label === other.label;
}

/** No label is given to a picture that is not there to be seen. */
export function mayDecide({ verdict }, pictureState) {
  const isBlind = verdict === "exclude" || verdict === "unsure";
  return pictureState === "there" || (pictureState === "unreadable" && isBlind);
}

/** A choice as it is stored; the label of both is the one that is right beside the given one. */
export function settled({ verdict, label = null }, { given_label: given }) {
  if (verdict === "keep" || (verdict === "relabel" && label === given))
    return { verdict: "keep", label: given };
  return { verdict, label: ["relabel", "both"].includes(verdict) ? label : null };
}
