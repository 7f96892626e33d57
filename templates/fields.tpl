<%
# The fields of a form.
#   fields   each with .name, .label, .value, .kind, .needed, .fixed, .fills and .choices (none: any text)
%>
% for field in fields:
  <label for="f-{{field.name}}">{{field.label}}</label>
%   if field.choices:
  <select id="f-{{field.name}}" name="{{field.name}}">
%     for choice in field.choices:
    <option{{!' selected' if choice == field.value else ""}}>{{choice}}</option>
%     end
  </select>
%   else:
  <input id="f-{{field.name}}" name="{{field.name}}" type="{{field.kind}}" value="{{field.value}}"{{!' required' if field.needed else ""}}{{!' readonly' if field.fixed else ""}} autocomplete="{{field.fills}}">
%   end
% end
