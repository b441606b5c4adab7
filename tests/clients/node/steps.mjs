// A program in named steps: see ../python/steps.py.
export const WEATHER = {
  type: "object",
  properties: { city: { type: "string" }, unit: { enum: ["celsius", "fahrenheit"] } },
  required: ["city", "unit"],
  additionalProperties: false,
};
export const WIND = {
  type: "object",
  properties: { city: { type: "string" }, force: { type: "integer" } },
  required: ["city", "force"],
  additionalProperties: false,
};
export const ASKS_FOR_TOOL = "call get_weather for Lee";
export const TOOL_SAYS = "mild, light wind";
export const TOO_MANY_TOKENS = 10 ** 9;

function classesOf(error) {
  const names = [];
  for (let kind = error.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) names.push(kind.name);
  return names;
}

export async function tell(steps, toldOf) {
  for (const [name, step] of Object.entries(steps)) {
    let said;
    try {
      said = { value: await step() };
    } catch (error) {
      said = { error: { classes: classesOf(error), ...toldOf(error) } };
    }
    console.log(JSON.stringify({ step: name, ...said }));
  }
  for await (const _ of process.stdin);
}
