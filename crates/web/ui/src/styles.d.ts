// Style of shadow roots, as text.
declare module "*.shadow.css" {
  const text: string;
  export default text;
}
declare module "*.min.css" {
  const text: string;
  export default text;
}
