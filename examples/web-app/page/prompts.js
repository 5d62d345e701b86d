// Prompts with `{{names}}` in them.

const NAME = /\{\{\s*([A-Za-z][A-Za-z0-9_]{0,39})\s*\}\}/g

/** The names that no earlier step answers, in the order in which they come: they are asked for. */
export function inputsOf(steps) {
  const answered = new Set()
  const asked = new Set()
  for (const { name, prompt } of steps) {
    for (const [, used] of prompt.matchAll(NAME)) if (!answered.has(used)) asked.add(used)
    answered.add(name)
  }
  return [...asked]
}

/** The prompt with each name's value. Once through: a `{{name}}` in a value (an answer, say) stays as it is. */
export const filledIn = (prompt, values) => prompt.replace(NAME, (whole, name) => values[name] ?? whole)
