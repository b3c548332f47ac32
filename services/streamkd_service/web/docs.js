// The OpenAPI document as a page.
const make = (tag, text = "", className = "") => Object.assign(document.createElement(tag), { textContent: text, className });

function resolve(document_, schema) {
  if (!schema?.$ref) return schema ?? {};
  return schema.$ref.split("/").slice(1).reduce((node, key) => node[key], document_);
}

function exampleOf(document_, content) {
  const [kind, media] = Object.entries(content ?? {})[0] ?? [];
  if (!media) return null;
  if (media.example !== undefined) return [kind, media.example];
  const schema = media.schema ?? {};
  if (schema.type === "array") return [kind, [resolve(document_, schema.items).examples?.[0]]];
  const option = schema.anyOf?.find((one) => one.$ref) ?? schema;
  const example = resolve(document_, option).examples?.[0];
  return example === undefined ? [kind, null] : [kind, example];
}

function showExample(parent, title, found) {
  if (!found) return;
  const [kind, example] = found;
  parent.append(make("p", `${title} · ${kind}`));
  if (example !== null) parent.append(make("pre", typeof example === "string" ? example : JSON.stringify(example, null, 2)));
}

function operation(document_, path, method, about) {
  const details = make("details");
  const summary = make("summary");
  summary.append(make("span", method.toUpperCase(), "method"), make("code", path), make("span", ` ${about.summary}`, "said"));
  details.append(summary);
  if (about.description) details.append(make("p", about.description));
  if (about.parameters?.length) {
    const table = make("table");
    for (const parameter of about.parameters) {
      const row = make("tr");
      const name = make("td");
      name.append(make("code", parameter.name), document.createTextNode(` ${parameter.in}${parameter.required ? ", required" : ""}`));
      row.append(name, make("td", parameter.description ?? ""));
      table.append(row);
    }
    details.append(table);
  }
  showExample(details, "Body", exampleOf(document_, about.requestBody?.content));
  const answers = make("table");
  for (const [status, answer] of Object.entries(about.responses)) {
    const row = make("tr");
    row.append(make("td", status), make("td", answer.description));
    answers.append(row);
    if (status < 300) showExample(details, "Answer", exampleOf(document_, answer.content));
  }
  details.append(answers);
  return details;
}

const document_ = await (await fetch("/openapi.json")).json();
for (const tag of document_.tags) {
  const section = make("section");
  section.append(make("h2", tag.name), make("p", tag.description));
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, about] of Object.entries(methods)) {
      if (about.tags?.includes(tag.name)) section.append(operation(document_, path, method, about));
    }
  }
  document.getElementById("doc").append(section);
}
