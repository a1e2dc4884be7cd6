// Makes a container of Azurite: node azure_container.mjs URL ACCOUNT KEY CONTAINER
import { createHmac } from "node:crypto";

const [url, account, key, container] = process.argv.slice(2);
const headers = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-12-02" };
const signed = Object.entries(headers).map(([name, value]) => `${name}:${value}`);
// The verb and eleven standard headers, none of which is sent.
const lines = ["PUT", ...Array(11).fill(""), ...signed, `/${account}/${account}/${container}`, "restype:container"];
const signature = createHmac("sha256", Buffer.from(key, "base64")).update(lines.join("\n")).digest("base64");
const answer = await fetch(`${url}/${account}/${container}?restype=container`, {
    method: "PUT",
    headers: { ...headers, authorization: `SharedKey ${account}:${signature}` },
});
if (!answer.ok) {
    console.error(answer.status, await answer.text());
    process.exit(1);
}
